"""Run frozen trunks once over an image source and write a feature table for each of their nodes, shard by shard.

A finished shard is never redone. Which are, and what closes a table, is decided here; `features.making` makes the rest.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from features.locks import locked
from features.loop import OnImages
from features.making import Make, Order, Step, make_shards
from features.sources.source import Source
from features.table.ledger import refuse_many
from features.table.manifest import Manifest, TableSpec
from features.table.shard import ShardSummary, cut_into_shards
from features.table.table import FeatureTable
from features.table.writer import TableWriter
from features.timing import Clock, added
from features.trunk.trunk import Trunk


@dataclass(frozen=True, kw_only=True)
class Extraction:
    """The complete tables, one a node; how many images went through trunks now or were found in finished shards.

    `seconds` is the time that all threads together spent in each stage.
    """

    tables: list[FeatureTable]
    extracted: int
    reused: int
    seconds: Mapping[str, float]


@dataclass(frozen=True)
class _Tables:
    """The tables of one trunk in the making, one writer a node."""

    trunk: Trunk
    writers: list[TableWriter]

    def lacks(self, number: int) -> bool:
        """Whether shard `number` of any of them is unfinished."""
        return any(writer.bad_keys(number) is None for writer in self.writers)


def table_specs(source: Source, trunk: Trunk) -> list[TableSpec]:
    """What the tables of `source` through `trunk` are, one a node, known before any image is read."""
    digest = source.digest()
    return [
        TableSpec(dataset=source.name, classes=source.classes, source_sha256=digest, trunk=spec, dim=dim)
        for spec, dim in zip(trunk.specs, trunk.dims, strict=True)
    ]


def extract(
    source: Source,
    trunks: Sequence[Trunk],
    root: Path,
    *,
    max_bad: float,
    retry_bad: bool = False,
    on_images: OnImages,
    make: Make = make_shards,
) -> Extraction:
    """Write the tables of `source` through `trunks` into folders in `root`, or find them finished, and open them.

    Every image listed is in each table or in its ledger; with `retry_bad`, shards with ledger entries are made again.
    `make` makes what is unfinished; the tables are the same wherever it does.
    Raises SourceError where a larger share than `max_bad` could not be read: the finished shards and the ledger stay,
    the manifest is not written.
    """
    specs = [table_specs(source, trunk) for trunk in trunks]
    every = [spec for of_trunk in specs for spec in of_trunk]
    with ExitStack() as locks:
        for folder in sorted({root / spec.folder_name for spec in every}):
            locks.enter_context(locked(folder))
        tables = _open_complete(root, every, retry_bad)
        if not tables:
            parts = cut_into_shards(source.items)
            making = [
                _Tables(trunk, [TableWriter(root, spec, parts, retry_bad=retry_bad) for spec in of_trunk])
                for trunk, of_trunk in zip(trunks, specs, strict=True)
            ]
            return _complete(source, making, parts, max_bad=max_bad, on_images=on_images, make=make)
    for table in tables:
        refuse_many(table.ledger(), len(source.items), max_bad, table.folder)
    return Extraction(tables=tables, extracted=0, reused=len(source.items), seconds={})


def _open_complete(root: Path, specs: Sequence[TableSpec], retry_bad: bool) -> list[FeatureTable]:
    """The tables, if each is complete and undamaged and, with `retry_bad`, has read every image; else none."""
    tables = []
    for spec in specs:
        folder = root / spec.folder_name
        manifest = Manifest.find(folder)
        if manifest is None:
            return []
        manifest.check_spec(folder, spec.fingerprint)
        tables.append(FeatureTable(folder, manifest))
    whole = all(table.is_intact() and not (retry_bad and table.errors) for table in tables)
    return tables if whole else []


def _complete(
    source: Source,
    making: list[_Tables],
    parts: Sequence[pd.DataFrame],
    *,
    max_bad: float,
    on_images: OnImages,
    make: Make,
) -> Extraction:
    """Make what is unfinished of tables that this run holds, by the trunks that it takes, and close them."""
    writers = [writer for tables in making for writer in tables.writers]
    for writer in writers:
        writer.find_finished()
    _agree(writers, len(parts))
    pending = {number: part for number, part in enumerate(parts) if any(tables.lacks(number) for tables in making)}
    unfinished = [tables for tables in making if any(map(tables.lacks, pending))]
    extracted, listed = sum(map(len, pending.values())), len(source.items)
    on_images(listed - extracted)
    orders = {
        number: Order(items=part, writes=[[writer.write(number) for writer in each.writers] for each in unfinished])
        for number, part in pending.items()
    }
    steps = make(source, [tables.trunk for tables in unfinished], orders)
    seconds = _run(unfinished, steps, on_images) if pending else {}
    tables = [writer.finish(max_bad) for writer in writers]
    return Extraction(tables=tables, extracted=extracted, reused=listed - extracted, seconds=seconds)


def _agree(writers: list[TableWriter], shards: int) -> None:
    """Where one table lacks an image that another has, its shard is unfinished: else the two could not be joined."""
    for number in range(shards):
        bad = {keys for writer in writers if (keys := writer.bad_keys(number)) is not None}
        if len(bad) > 1:  # a table that keeps an image bad would lack what the others come to read
            for writer in writers:
                if writer.bad_keys(number):
                    writer.redo(number)


def _run(making: list[_Tables], steps: Generator[Step], on_images: OnImages) -> Mapping[str, float]:
    """Take the `steps` in which what is unfinished is made; returns the seconds of each stage.

    What it took is written before the shard is, so that a finished table tells it whenever a run was killed.
    """
    unfinished = [[writer.folder for writer in tables.writers if not writer.is_finished] for tables in making]
    clock = Clock(unfinished, str(making[0].trunk.device))
    all_done = Step(own=[{} for _ in making])
    with closing(steps):
        for step in steps:
            all_done = replace(all_done.then(step), written={})
            on_images(step.images)
            for number, summaries in step.written.items():
                _note(making, number, summaries)
            if step.ends_shard:
                clock.write(all_done.images, all_done.once, all_done.own)
    clock.write(all_done.images, all_done.once, all_done.own)
    return added(all_done.once, *all_done.own)


def _note(making: list[_Tables], number: int, summaries: Sequence[ShardSummary]) -> None:
    """Note shard `number` as finished in each table that lacked it."""
    lacking = [writer for tables in making for writer in tables.writers if writer.bad_keys(number) is None]
    for writer, summary in zip(lacking, summaries, strict=True):
        writer.note(number, summary)
