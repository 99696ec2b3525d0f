"""What an extraction costs besides its images: so many keys are listed, split, cut into shards, and found finished."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from benchmarks.synthetic import CLASSES, SPEC, Colours, told_of_images
from features.extract import extract, table_specs
from features.sources.registry import open_source
from features.sources.source import Source
from features.table.shard import cut_into_shards
from features.table.table import FeatureTable, families
from features.table.writer import TableWriter
from features.trunk.trunk import Trunk
from pipeline.costs import peak_bytes

Made = TypeVar("Made")


@dataclass(frozen=True, kw_only=True)
class KeysJob:
    """So many keys, in a folder made in `folder` and removed again."""

    keys: int
    folder: Path


@dataclass(frozen=True, kw_only=True)
class Keys:
    """What they took: the seconds of each stage, those of a core in all, and the most memory that the process held."""

    keys: int
    shards: int
    seconds: dict[str, float]
    core_seconds: float
    peak_bytes: int

    @property
    def total(self) -> float:
        """Seconds of all stages."""
        return sum(self.seconds.values())


def measure_keys(job: KeysJob) -> Keys:
    """List keys, write a table of a few numbers for each, and resume; meant for a process of its own."""
    seconds: dict[str, float] = {}
    core_seconds = 0.0

    def timed(stage: str, make: Callable[[], Made]) -> Made:
        nonlocal core_seconds
        start, before = time.perf_counter(), time.process_time()
        made = make()
        seconds[stage] = time.perf_counter() - start
        core_seconds += time.process_time() - before
        return made

    with tempfile.TemporaryDirectory(dir=job.folder) as scratch:
        root = Path(scratch)
        listed = _listed(root, job.keys)
        found = timed("list and split", lambda: open_source(str(listed)))
        source = replace(found, read=lambda _: np.zeros((8, 8), np.uint8))
        trunk = Trunk([SPEC], Colours(), torch.device("cpu"))
        (spec,) = timed("digest", lambda: table_specs(source, trunk))
        parts = timed("cut into shards", lambda: cut_into_shards(source.items))
        writer = timed("fingerprint shards", lambda: TableWriter(root, spec, parts, retry_bad=False))
        table = timed("write", lambda: _write(writer, parts))
        timed("resume, all finished", lambda: _resume(source, trunk, root, 0))
        last = table.shards[-1]
        rows = pq.read_metadata(last).num_rows
        last.unlink()
        table = timed("resume, all but one", lambda: _resume(source, trunk, root, rows))
        timed("index", lambda: families(table.index()))
    return Keys(keys=job.keys, shards=len(parts), seconds=seconds, core_seconds=core_seconds, peak_bytes=peak_bytes())


def _listed(root: Path, keys: int) -> Path:
    """A Parquet file of so many images that no one will read, each with a class."""
    folder = root / "images"
    folder.mkdir()
    with pq.ParquetWriter(folder / "train.parquet", _images(range(0)).schema) as file:
        for start in range(0, keys, 10_000):
            file.write_table(_images(range(start, min(start + 10_000, keys))))
    return folder


def _images(rows: range) -> pa.Table:
    names = pa.array([f"{row:08d}.jpg" for row in rows], pa.string())
    image = pa.StructArray.from_arrays([pa.array([b"image"] * len(rows), pa.binary()), names], ["bytes", "path"])
    labels = pa.array([f"class {row * 7919 % CLASSES:02d}" for row in rows], pa.string())
    return pa.table({"image": image, "label": labels})


def _write(writer: TableWriter, parts: Sequence[pd.DataFrame]) -> FeatureTable:
    """Write all shards as an extraction does, without images or a network."""
    writer.folder.mkdir()
    writer.find_finished()
    for number, items in enumerate(parts):
        features = np.zeros((len(items), writer.spec.dim), np.float16)
        write = writer.write(number)
        assert write  # the folder is new
        writer.note(number, write(told_of_images(items.index.tolist()), features, []))
    return writer.finish(max_bad=0)


def _resume(source: Source, trunk: Trunk, root: Path, missing: int) -> FeatureTable:
    """Extract again, where as many images are `missing` as have to be taken through the network."""
    done = extract(source, [trunk], root, max_bad=0, on_images=lambda _: None)
    if done.extracted != missing:
        raise AssertionError(f"{done.extracted} images were extracted, expected {missing}")
    return done.tables[0]
