"""Run a frozen trunk over an image source and write the feature table, shard by shard.

Threads read, decode and resize the next images while the trunk works. A finished shard is never redone.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from features.decode import decode
from features.errors import DecodeError, SourceError, TrunkError
from features.shards import shard_name, shard_summary, write_shard
from features.sources.base import Payload, Source
from features.table import LEDGER, MANIFEST, FeatureTable, TableSpec, write_ledger, write_manifest
from features.trunks import Trunk

SHARD_IMAGES = 2048
BATCH_IMAGES = 64
BATCHES_AHEAD = 2

OnImages = Callable[[int], None]
"""Called with how many images have just been done."""


@dataclass(frozen=True, kw_only=True)
class Extraction:
    """A complete table, and how many images went through the trunk now or were found in finished shards."""

    table: FeatureTable
    extracted: int
    reused: int


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """One image as the trunk takes it, (3, s, s) uint8, or why there is none."""

    sha256: str
    image: torch.Tensor | None
    reason: str = ""
    exception: str = ""


def table_spec(source: Source, trunk: Trunk) -> TableSpec:
    """What the table of `source` through `trunk` is, known before any image is read."""
    return TableSpec(
        dataset=source.name,
        classes=source.classes,
        source_sha256=source.digest(),
        trunk=trunk.spec,
        dim=trunk.dim,
    )


def extract(source: Source, trunk: Trunk, folder: Path, *, max_bad: float, on_images: OnImages) -> Extraction:
    """Write the table of `source` through `trunk` into `folder`, or find it finished, and open it.

    Every image listed is in the table or in its ledger. Raises SourceError where a larger share than `max_bad` could
    not be read: the finished shards and the ledger stay, the manifest is not written.
    """
    spec = table_spec(source, trunk)
    if (folder / MANIFEST).exists():
        table = FeatureTable.open(folder, spec.fingerprint)
        _refuse_many(table.ledger(), len(source.items), max_bad, folder)
        return Extraction(table=table, extracted=0, reused=len(source.items))
    shards: list[str] = []
    rows: Counter[str] = Counter()
    errors: list[dict[str, str]] = []
    reused = 0
    for start in range(0, len(source.items), SHARD_IMAGES):
        items = source.items.iloc[start : start + SHARD_IMAGES]
        shards.append(shard_name(len(shards)))
        path = folder / shards[-1]
        summary = shard_summary(path, spec, items["key"].tolist())
        if summary is None:
            summary = write_shard(path, spec, *_run_trunk(source, trunk, items, on_images))
        else:
            reused += len(items)
            on_images(len(items))
        rows.update(summary.rows)
        errors += summary.errors
    ledger = write_ledger(folder, errors)
    _refuse_many(ledger, len(source.items), max_bad, folder)
    write_manifest(folder, spec, dict(rows), len(errors), shards)
    return Extraction(table=FeatureTable.open(folder), extracted=len(source.items) - reused, reused=reused)


def _prepare(read: Callable[[], Payload], trunk: Trunk) -> Prepared:
    """Read, decode and resize one image; what goes wrong on the way is its reason, not an exception."""
    sha256 = ""
    try:
        content = read()
        sha256 = hashlib.sha256(bytes(content)).hexdigest()
        return Prepared(sha256=sha256, image=trunk.prepare(decode(content)))
    except OSError as error:
        return Prepared(
            sha256=sha256, image=None, reason=f"unreadable: {error.strerror or error}", exception=repr(error)
        )
    except DecodeError as error:
        return Prepared(sha256=sha256, image=None, reason=str(error), exception=repr(error.__cause__ or error))


def forward_half(trunk: Trunk, batch: list[Prepared]) -> NDArray[np.float16]:
    """Features as a table holds them, (n, dim) float16, of the n images of a batch that could be read.

    Raises TrunkError where they do not fit float16.
    """
    images = [prepared.image for prepared in batch if prepared.image is not None]
    if not images:
        return np.empty((0, trunk.dim), np.float16)
    with np.errstate(over="ignore"):  # what does not fit is refused below
        features = trunk.forward(torch.stack(images)).astype(np.float16)
    if not np.isfinite(features).all():
        raise TrunkError(
            f"features at node {trunk.spec.node!r} do not fit float16 (infinite or not a number): choose another --node"
        )
    return features


def _run_trunk(
    source: Source, trunk: Trunk, items: pd.DataFrame, on_images: OnImages
) -> tuple[pd.DataFrame, NDArray[np.float16], list[dict[str, str]]]:
    """Features of the images that can be read, their rows of `items` with a sha256 column, and the ledger's entries."""
    features = [np.empty((0, trunk.dim), np.float16)]
    good: list[tuple[int, str]] = []
    errors: list[dict[str, str]] = []
    rows = deque(int(row) for row in items.index)
    for batch in prepared_batches(trunk, [partial(source.read, row) for row in rows]):
        features.append(forward_half(trunk, batch))
        for prepared in batch:
            row = rows.popleft()
            if prepared.image is None:
                key = str(items.at[row, "key"])
                errors.append({"key": key, "reason": prepared.reason, "exception": prepared.exception})
            else:
                good.append((row, prepared.sha256))
        on_images(len(batch))
    kept = items.loc[[row for row, _ in good], ["key", "split", "label"]].assign(sha256=[sha for _, sha in good])
    return kept, np.concatenate(features), errors


def prepared_batches(trunk: Trunk, reads: Sequence[Callable[[], Payload]]) -> Iterator[list[Prepared]]:
    """Prepare images in order, BATCH_IMAGES at a time, BATCHES_AHEAD batches ahead of the one asked for."""
    waiting: deque[list[Future[Prepared]]] = deque()
    pool = ThreadPoolExecutor(os.cpu_count())
    try:
        for start in range(0, len(reads), BATCH_IMAGES):
            waiting.append([pool.submit(_prepare, read, trunk) for read in reads[start : start + BATCH_IMAGES]])
            if len(waiting) > BATCHES_AHEAD:
                yield [future.result() for future in waiting.popleft()]
        while waiting:
            yield [future.result() for future in waiting.popleft()]
    finally:
        pool.shutdown(cancel_futures=True)


def _refuse_many(ledger: pd.DataFrame, listed: int, max_bad: float, folder: Path) -> None:
    if len(ledger) > max_bad * listed:
        first = ledger.iloc[0]
        raise SourceError(
            f"{len(ledger)} of {listed} images could not be read, more than --max-bad {max_bad} allows (first: "
            f"{first['key']}, {first['reason']}; all in {folder / LEDGER}): mend or remove them, or raise --max-bad"
        )
