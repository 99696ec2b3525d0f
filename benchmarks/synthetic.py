"""A synthetic feature table, as large as is asked for, its first rows as a table of their own, and the same as images.

Rows of a class lie about its centre, spread in a few directions that are the same for all classes, and by noise: a
linear classifier gets most of them right and some wrong.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import nn

from features.errors import TableError
from features.looks import LOOKS, SIDE
from features.sources.source import listing
from features.table.joined import JoinedTable
from features.table.ledger import write_ledger
from features.table.manifest import Manifest, TableSpec
from features.table.shard import name_shards, write_shard
from features.table.table import FeatureTable, close_table
from features.trunk.spec import TrunkSpec

SHARD_ROWS = 1000
"""Rows of a shard; of ten shards eight are train, one is validation and one test."""

CLASSES, DIRECTIONS = 20, 32

SPREAD, APART = 1.0, 0.15
"""How far rows lie from their class's centre in each column, and the centres from one another."""

SPLITS = (*["train"] * 8, "validation", "test")

SPEC = TrunkSpec(
    backbone="synthetic",
    weights="random",
    weights_sha256="0" * 64,
    seed=0,
    node="pool",
    pool="none",
    image_size=8,
    resize=8,
    interpolation="bilinear",
    mean=(0.5,) * 3,
    std=(0.25,) * 3,
)
"""The trunk that a synthetic table is said to be of."""


class Colours(nn.Module):
    """The trunk's network: (n, 3, 8, 8) images to their mean colours."""

    def forward(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        """By node."""
        return {SPEC.node: images.mean(dim=(2, 3))}


def told_of_images(rows: Sequence[int]) -> pd.DataFrame:
    """What a shard tells of images besides their features, for some `rows` of a listing; no two have the same bytes."""
    looks = pd.DataFrame(0.0, pd.Index(rows), list(LOOKS), np.float32)
    blank = pd.Series([np.zeros(SIDE * SIDE, np.uint8)] * len(rows), looks.index, object)
    return looks.assign(sha256=[f"{row:064x}" for row in rows], bytes=1, width=8, height=8, thumbnail=blank)


def write_synthetic(root: Path, rows: int, columns: int, seed: int) -> Path:
    """Write a table of `rows` (a multiple of SHARD_ROWS) in a folder of `root`, unless it is there; returns it."""
    classes = tuple(f"class {number:02d}" for number in range(CLASSES))
    source = f"{rows} rows, seed {seed}"  # no digest, but as good as one
    spec = TableSpec(dataset="scale", classes=classes, source_sha256=source, trunk=SPEC, dim=columns)
    folder, drawn = root / spec.folder_name, _Drawn(columns, seed)
    try:
        return FeatureTable.open(folder, spec.fingerprint).folder
    except TableError:
        pass
    parts = [_items(number, drawn.labels(number)) for number in range(rows // SHARD_ROWS)]
    counts = dict.fromkeys(dict.fromkeys(SPLITS), 0)
    shards = name_shards(spec, parts)
    for number, shard in enumerate(shards):
        told = told_of_images(shard.items.index.tolist())
        write_shard(folder / shard.name, spec, shard, told, drawn.features(number), [])
        counts[SPLITS[number % len(SPLITS)]] += SHARD_ROWS
    write_ledger(folder, [])
    close_table(folder, spec, counts, 0, [shard.name for shard in shards])
    return folder


def first_rows(folder: Path, rows: int) -> JoinedTable:
    """The first `rows` (a multiple of SHARD_ROWS) of a synthetic table."""
    manifest = Manifest.read(folder)
    names = list(manifest.shards)[: rows // SHARD_ROWS]
    counts = {split: SHARD_ROWS * sum(SPLITS[i % len(SPLITS)] == split for i in range(len(names))) for split in SPLITS}
    shards = {name: manifest.shards[name] for name in names}
    return JoinedTable([FeatureTable(folder, replace(manifest, shards=shards, rows=counts))])


def _items(number: int, labels: NDArray[np.int32]) -> pd.DataFrame:
    first = number * SHARD_ROWS
    keys = [f"{row:08d}.jpg" for row in range(first, first + SHARD_ROWS)]
    items = listing(keys, [SPLITS[number % len(SPLITS)]] * SHARD_ROWS, labels)
    return items.set_axis(pd.RangeIndex(first, first + SHARD_ROWS), axis=0)


class _Drawn:
    """Labels and features of each shard, which depend on its number and the seed alone."""

    def __init__(self, columns: int, seed: int) -> None:
        self._seed, self._columns = seed, columns
        random = torch.Generator().manual_seed(seed)
        self._centres = APART * torch.randn(CLASSES, columns, generator=random)
        self._basis = SPREAD * torch.randn(DIRECTIONS, columns, generator=random) / DIRECTIONS**0.5

    def labels(self, number: int) -> NDArray[np.int32]:
        """(SHARD_ROWS,)."""
        return np.random.default_rng((self._seed, number)).integers(CLASSES, size=SHARD_ROWS, dtype=np.int32)

    def features(self, number: int) -> NDArray[np.float16]:
        """(SHARD_ROWS, columns)."""
        random = torch.Generator().manual_seed(self._seed + 1 + number)
        x = self._centres[torch.from_numpy(self.labels(number)).long()]
        x += torch.randn(SHARD_ROWS, DIRECTIONS, generator=random) @ self._basis
        x += SPREAD * torch.randn(SHARD_ROWS, self._columns, generator=random)
        features: NDArray[np.float16] = x.half().numpy()
        return features
