"""A search among many synthetic images, pairs of which are planted: rows of features, and thumbnails."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from features.looks import SIDE
from features.near.changes import CHANGES, sampled
from features.near.pairs import Images, near_doubles
from features.near.search import EXACT_ROWS
from pipeline.costs import peak_bytes

COLUMNS, CLASSES, DIRECTIONS, PAIRS = 512, 200, 48, 1000
"""Columns of a row; groups of rows; the directions that most of what differs within one lies in; pairs planted."""

APART = 0.25
"""How far the second of a pair is from the first in each column, within a group two are about 1.5 apart."""


@dataclass(frozen=True, kw_only=True)
class ScaleJob:
    """So many rows."""

    rows: int
    seed: int


@dataclass(frozen=True, kw_only=True)
class Scale:
    """What their search took, and the share of planted pairs that it found."""

    rows: int
    by: str
    seconds: float
    peak_bytes: int
    recall: float


def measure_scale(job: ScaleJob) -> Scale:
    """Search once; meant for a process of its own."""
    x, first, second = planted_rows(job.rows, job.seed)
    random = np.random.default_rng(job.seed)
    pictures = random.integers(256, size=(job.rows, SIDE, SIDE), dtype=np.uint8)
    pictures[second] = _noisy(pictures[first], random)
    rows = sampled(job.rows, job.seed)
    again = np.repeat(rows, len(CHANGES))
    changed = Images(
        features=x[again] + APART * random.standard_normal((len(again), COLUMNS), np.float32),
        thumbnails=_noisy(pictures[again], random),
    )
    start = time.perf_counter()
    found = near_doubles(Images(features=x, thumbnails=pictures), rows, changed)
    seconds = time.perf_counter() - start
    planted = set(zip(np.minimum(first, second).tolist(), np.maximum(first, second).tolist(), strict=True))
    named = planted.intersection(zip(found.first.tolist(), found.second.tolist(), strict=True))
    by = "product" if job.rows <= EXACT_ROWS else "index"
    return Scale(rows=job.rows, by=by, seconds=seconds, peak_bytes=peak_bytes(), recall=len(named) / len(planted))


def _noisy(pictures: NDArray[np.uint8], random: np.random.Generator) -> NDArray[np.uint8]:
    noise = random.integers(-8, 9, pictures.shape)
    noisy: NDArray[np.uint8] = np.clip(pictures + noise, 0, 255).astype(np.uint8)
    return noisy


def planted_rows(n: int, seed: int) -> tuple[NDArray[np.float16], NDArray[np.int64], NDArray[np.int64]]:
    """(n, COLUMNS) rows in groups, and the first and second of each pair among them."""
    seeded = torch.Generator().manual_seed(seed)
    centres = 0.7 * torch.randn(CLASSES, COLUMNS, generator=seeded)
    basis = 2 * torch.randn(DIRECTIONS, COLUMNS, generator=seeded) / DIRECTIONS**0.5
    x = torch.empty(n, COLUMNS, dtype=torch.float16)
    for start in range(0, n, 2**13):
        part = x[start : start + 2**13]
        group = torch.randint(CLASSES, (len(part),), generator=seeded)
        within = torch.randn(len(part), DIRECTIONS, generator=seeded) @ basis
        part[:] = (centres[group] + within + 0.5 * torch.randn(len(part), COLUMNS, generator=seeded)).half()
    first, second = torch.randperm(n, generator=seeded)[: 2 * min(PAIRS, n // 4)].view(2, -1)
    x[second] = (x[first].float() + APART * torch.randn(len(first), COLUMNS, generator=seeded)).half()
    return x.numpy(), first.numpy(), second.numpy()
