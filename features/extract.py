"""Run a frozen trunk once over an image source and write a feature table for each of its nodes, shard by shard.

A finished shard is never redone. Writing goes on while the next images are on their way.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from features.devices import writer_count
from features.locks import locked
from features.loop import Batch, OnImages, Reader, failures, run_batches
from features.sources.source import Source
from features.stopwatch import STAGES
from features.table.ledger import refuse_many
from features.table.manifest import Manifest, TableSpec
from features.table.shard import cut_into_shards
from features.table.table import FeatureTable
from features.table.timing import Clock
from features.table.writer import TableWriter
from features.trunk.trunk import Trunk


@dataclass(frozen=True, kw_only=True)
class Extraction:
    """The complete tables, one a node; how many images went through the trunk now or were found in finished shards.

    `seconds` is the time that all threads together spent in each stage.
    """

    tables: list[FeatureTable]
    extracted: int
    reused: int
    seconds: dict[str, float]


def table_specs(source: Source, trunk: Trunk) -> list[TableSpec]:
    """What the tables of `source` through `trunk` are, one a node, known before any image is read."""
    digest = source.digest()
    return [
        TableSpec(dataset=source.name, classes=source.classes, source_sha256=digest, trunk=spec, dim=dim)
        for spec, dim in zip(trunk.specs, trunk.dims, strict=True)
    ]


def extract(
    source: Source, trunk: Trunk, root: Path, *, max_bad: float, retry_bad: bool = False, on_images: OnImages
) -> Extraction:
    """Write the tables of `source` through `trunk` into folders in `root`, or find them finished, and open them.

    Every image listed is in the table or in its ledger; with `retry_bad`, shards with ledger entries are made again.
    Raises SourceError where a larger share than `max_bad` could not be read: the finished shards and the ledger stay,
    the manifest is not written.
    """
    specs = table_specs(source, trunk)
    with ExitStack() as locks:
        for folder in sorted(root / spec.folder_name for spec in specs):
            locks.enter_context(locked(folder))
        tables = _open_complete(root, specs, retry_bad)
        if not tables:
            parts = cut_into_shards(source.items)
            writers = [TableWriter(root, spec, parts, retry_bad=retry_bad) for spec in specs]
            return _complete(source, trunk, parts, writers, max_bad=max_bad, on_images=on_images)
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
    trunk: Trunk,
    parts: Sequence[pd.DataFrame],
    writers: list[TableWriter],
    *,
    max_bad: float,
    on_images: OnImages,
) -> Extraction:
    """Make what is unfinished of tables that this run holds, and close them."""
    for writer in writers:
        writer.find_finished()
    _agree(writers, len(parts))
    unfinished = [number for number in range(len(parts)) if any(w.bad_keys(number) is None for w in writers)]
    pending = {number: parts[number] for number in unfinished}
    extracted, listed = sum(map(len, pending.values())), len(source.items)
    on_images(listed - extracted)
    seconds = _run(source, trunk, pending, writers, on_images)
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
    source: Source, trunk: Trunk, pending: dict[int, pd.DataFrame], writers: list[TableWriter], on_images: OnImages
) -> dict[str, float]:
    """Make the `pending` shards, number to items, of every table; returns the seconds of each stage.

    What it took is written before the shard is, so that a finished table tells it whenever a run was killed.
    """
    seconds = dict.fromkeys(STAGES, 0.0)
    clock = Clock([writer.folder for writer in writers if not writer.is_finished], str(trunk.device))
    threads, images = writer_count(trunk.device), 0
    writing: deque[Future[float]] = deque()
    batches = run_batches(trunk, _readers(source, pending.values(), trunk.batch_images))
    with closing(batches), ThreadPoolExecutor(threads) as pool:
        for number, items in pending.items():
            taken: list[Batch] = []
            while sum(len(batch.outcomes) for batch in taken) < len(items):
                taken.append(next(batches))
                for stage, spent in taken[-1].seconds.items():
                    seconds[stage] += spent
                on_images(len(taken[-1].outcomes))
            images += len(items)
            clock.write(images, seconds)
            writing.append(pool.submit(_write, writers, number, items, taken))
            if len(writing) > threads:
                seconds["write"] += writing.popleft().result()
        seconds["write"] += sum(future.result() for future in writing)
    clock.write(images, seconds)
    return seconds


def _readers(source: Source, parts: Iterable[pd.DataFrame], size: int) -> Iterator[list[Reader]]:
    """The images of each shard, at most `size` at a time."""
    for items in parts:
        for start in range(0, len(items), size):
            yield [partial(source.read, int(row)) for row in items.index[start : start + size]]


def _write(writers: list[TableWriter], number: int, items: pd.DataFrame, batches: list[Batch]) -> float:
    """Write shard `number` of every table that lacks it; returns the seconds it took."""
    start = time.perf_counter()
    outcomes = [outcome for batch in batches for outcome in batch.outcomes]
    good = [row for row, outcome in zip(items.index, outcomes, strict=True) if not outcome.reason]
    sha256 = pd.Series([outcome.sha256 for outcome in outcomes if not outcome.reason], index=good, dtype=object)
    errors = failures(items["key"], outcomes)
    for node, writer in enumerate(writers):
        if writer.bad_keys(number) is not None:
            continue
        writer.write(number, sha256, np.concatenate([batch.features[node] for batch in batches]), errors)
    return time.perf_counter() - start
