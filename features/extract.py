"""Run frozen trunks once over an image source and write a feature table for each of their nodes, shard by shard.

A finished shard is never redone. Writing goes on while the next images are on their way.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from features.devices import writer_count
from features.locks import locked
from features.looks import LOOKS
from features.loop import Batch, OnImages, batch_images, run_batches
from features.outcomes import Reader, failures
from features.sources.source import Source
from features.stopwatch import added
from features.table.ledger import refuse_many
from features.table.manifest import Manifest, TableSpec
from features.table.shard import cut_into_shards
from features.table.table import FeatureTable
from features.table.timing import Clock
from features.table.writer import TableWriter
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

    @property
    def unfinished_folders(self) -> list[Path]:
        """The folders of those that are not finished."""
        return [writer.folder for writer in self.writers if not writer.is_finished]

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
    source: Source, trunks: Sequence[Trunk], root: Path, *, max_bad: float, retry_bad: bool = False, on_images: OnImages
) -> Extraction:
    """Write the tables of `source` through `trunks` into folders in `root`, or find them finished, and open them.

    Every image listed is in each table or in its ledger; with `retry_bad`, shards with ledger entries are made again.
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
            return _complete(source, making, parts, max_bad=max_bad, on_images=on_images)
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
    source: Source, making: list[_Tables], parts: Sequence[pd.DataFrame], *, max_bad: float, on_images: OnImages
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
    seconds = _run(source, unfinished, pending, on_images) if pending else {}
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


def _run(
    source: Source, making: list[_Tables], pending: Mapping[int, pd.DataFrame], on_images: OnImages
) -> Mapping[str, float]:
    """Make the `pending` shards, number to items, of every table; returns the seconds of each stage.

    What it took is written before the shard is, so that a finished table tells it whenever a run was killed.
    """
    trunks = [tables.trunk for tables in making]
    clocks = [Clock(tables.unfinished_folders, str(tables.trunk.device)) for tables in making]
    once: Mapping[str, float] = {}
    own: list[Mapping[str, float]] = [{} for _ in making]
    threads, images = writer_count(trunks[0].device), 0
    writing: deque[Future[list[float]]] = deque()

    def note_time() -> None:
        every = added(once, *own)
        for clock, seconds in zip(clocks, own, strict=True):
            clock.write(images, once, seconds, every)

    def wait_for_writing() -> None:
        for number, seconds in enumerate(writing.popleft().result()):
            own[number] = added(own[number], {"write": seconds})

    batches = run_batches(trunks, _readers(source, pending.values(), batch_images(trunks)))
    with closing(batches), ThreadPoolExecutor(threads) as pool:
        for number, items in pending.items():
            taken: list[Batch] = []
            while sum(len(batch.outcomes) for batch in taken) < len(items):
                taken.append(next(batches))
                once = added(once, taken[-1].seconds)
                own = list(map(added, own, taken[-1].trunk_seconds))
                on_images(len(taken[-1].outcomes))
            images += len(items)
            note_time()
            writing.append(pool.submit(_write, making, number, items, taken))
            if len(writing) > threads:
                wait_for_writing()
        while writing:
            wait_for_writing()
    note_time()
    return added(once, *own)


def _readers(source: Source, parts: Iterable[pd.DataFrame], size: int) -> Iterator[list[Reader]]:
    """The images of each shard, at most `size` at a time."""
    for items in parts:
        for start in range(0, len(items), size):
            yield [partial(source.read, int(row)) for row in items.index[start : start + size]]


def _write(making: list[_Tables], number: int, items: pd.DataFrame, batches: list[Batch]) -> list[float]:
    """Write shard `number` of every table that lacks it; returns the seconds it took for each trunk."""
    outcomes = [outcome for batch in batches for outcome in batch.outcomes]
    good = {row: outcome for row, outcome in zip(items.index, outcomes, strict=True) if not outcome.reason}
    looks = pd.DataFrame(np.concatenate([batch.looks for batch in batches]), list(good), columns=list(LOOKS))
    told = {name: [getattr(each, name) for each in good.values()] for name in ("sha256", "bytes", "width", "height")}
    thumbnails = [each.thumbnail.ravel() for each in good.values() if each.thumbnail is not None]
    images = looks.assign(**told, thumbnail=pd.Series(thumbnails, looks.index, dtype=object))
    errors = failures(items["key"], outcomes)
    seconds, node = [], 0
    for tables in making:
        start = time.perf_counter()
        for writer in tables.writers:
            if writer.bad_keys(number) is None:
                writer.write(number, images, np.concatenate([batch.features[node] for batch in batches]), errors)
            node += 1
        seconds.append(time.perf_counter() - start)
    return seconds
