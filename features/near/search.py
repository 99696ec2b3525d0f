"""Which rows are nearest to others: an exact product, block by block, or beyond that an approximate index.

Distances are half of the squared Euclidean, which is 1 - cosine of rows of unit length.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from features.errors import FeaturesError

EXACT_ROWS = 50_000
"""Up to so many, the product is faster than an index or nearly so."""

BLOCK = 1024
"""Queries at once."""

MOST_COLUMNS = 512
"""What longer rows are projected to, at random, which keeps cosines (Johnson & Lindenstrauss, 1984)."""

LISTS, LOOKED_AT = 2048, 8
"""Of the index: lists, and how many of them are looked at for a query."""

PER_LIST, ROUNDS = 20, 5
"""Rows for each list that k-means learns from, and its rounds."""

MARGIN = 0.25
"""How far beyond what k-means has seen a number may lie, as a share of its range: a byte holds no more."""

OnRows = Callable[[int], None]
"""Called with how many rows have just been looked up."""

AsUnit = Callable[[NDArray[Any]], torch.Tensor]

Found = tuple[NDArray[np.int32], NDArray[np.float32]]
"""Indices and distances, (n, k) each, nearest first."""


class Directions:
    """Rows as directions from the mean of a set: (n, d) to (n, at most MOST_COLUMNS) float16 of unit length.

    `x` is the set, (n, d) float16 or float32; the projection depends on d alone.
    """

    def __init__(self, x: NDArray[Any]) -> None:
        self.mean = torch.from_numpy(x.mean(axis=0, dtype=np.float64).astype(np.float32))
        self.projection: torch.Tensor | None = None
        if x.shape[1] > MOST_COLUMNS:
            seeded = torch.Generator().manual_seed(0)
            self.projection = torch.randn(x.shape[1], MOST_COLUMNS, generator=seeded)

    def of(self, x: NDArray[Any]) -> NDArray[np.float16]:
        """The directions of rows; those at the mean stay zero."""
        columns = x.shape[1] if self.projection is None else MOST_COLUMNS
        return _filled(np.empty((len(x), columns), np.float16), map(self._of, _blocks(x)))

    def _of(self, x: NDArray[Any]) -> torch.Tensor:
        away = torch.from_numpy(x.astype(np.float32)) - self.mean
        if self.projection is not None:
            away = away @ self.projection
        return unit(away)


def unit(rows: torch.Tensor) -> torch.Tensor:
    """(n, d) float32 rows of length 1; those that are next to nothing become zero."""
    length = rows.norm(dim=1, keepdim=True)
    return torch.where(length > 1e-3, rows / length.clamp_min(1e-3), 0.0)


class Searcher:
    """A set of n rows in which to look up others, a block of either in memory as (b, d) float32 of length 1 or 0.

    `as_unit` makes such a block from b of the rows; float16 ones need nothing more.
    """

    def __init__(self, rows: NDArray[Any], as_unit: AsUnit = torch.from_numpy) -> None:
        self._rows, self._as_unit = len(rows), lambda block: as_unit(block).float()
        if len(rows) > EXACT_ROWS:
            self._look_up = partial(_by_index, _index(rows, self._as_unit))
        else:
            self._look_up = partial(_by_product, torch.cat([*map(self._as_unit, _blocks(rows))]))

    def nearest(self, queries: NDArray[Any], k: int, on_rows: OnRows = lambda rows: None) -> Found:
        """The k rows (or as many as there are) nearest to each query."""
        k = min(k, self._rows)
        indices, distances = np.empty((len(queries), k), np.int32), np.empty((len(queries), k), np.float32)
        for start, block in zip(_starts(queries), map(self._as_unit, _blocks(queries)), strict=True):
            part = slice(start, start + BLOCK)
            indices[part], distances[part] = self._look_up(block, k)
            on_rows(len(block))
        return indices, distances


def _by_product(rows: torch.Tensor, queries: torch.Tensor, k: int) -> tuple[NDArray[Any], NDArray[Any]]:
    half = rows.square().sum(1) / 2
    closeness, indices = torch.addmm(-half, queries, rows.T).topk(k, dim=1)
    distances = (queries.square().sum(1, keepdim=True) / 2 - closeness).clamp_min(0)
    return indices.numpy(), distances.numpy()


def _by_index(index: Any, queries: torch.Tensor, k: int) -> tuple[NDArray[Any], NDArray[Any]]:
    distances, indices = index.search(queries.numpy(), k)
    indices[indices < 0] = indices.max()  # fewer were looked at than asked for: these are far
    return indices, np.minimum(distances / 2, 2)


def neighbours(x: NDArray[Any], k: int, on_rows: OnRows = lambda rows: None) -> Found:
    """The k nearest of each of n images (or n - 1), itself left out, by their features' directions, (n, d)."""
    rows = Directions(x).of(x)
    return others(Searcher(rows), rows, k, on_rows)


def others(searcher: Searcher, queries: NDArray[Any], k: int, on_rows: OnRows = lambda rows: None) -> Found:
    """The k nearest rows to each query, without the row of the query's own number."""
    indices, distances = searcher.nearest(queries, k + 1, on_rows)
    own = indices == np.arange(len(queries))[:, None]
    own[~own.any(axis=1), -1] = True  # among many copies of it the row itself may be missing: the last goes
    shape = (len(queries), indices.shape[1] - 1)
    return indices[~own].reshape(shape), distances[~own].reshape(shape)


def distances_between(rows: NDArray[np.float16], first: NDArray[Any], others: NDArray[np.float16]) -> NDArray[Any]:
    """Half of the squared distance from rows[first] to `others`, (m,) float32, without the product's rounding."""
    found = [np.empty(0, np.float32)]
    for start in range(0, len(first), 2**12):
        part = slice(start, start + 2**12)
        gap = rows[first[part]].astype(np.float32) - others[part].astype(np.float32)
        found.append(np.einsum("ij,ij->i", gap, gap) / 2)
    return np.concatenate(found)


def _blocks(rows: NDArray[Any]) -> Iterator[NDArray[Any]]:
    """BLOCK rows at a time; of none, once none."""
    return (rows[start : start + BLOCK] for start in _starts(rows))


def _starts(rows: NDArray[Any]) -> range:
    return range(0, max(len(rows), 1), BLOCK)


def _filled(whole: NDArray[Any], blocks: Iterable[torch.Tensor]) -> NDArray[Any]:
    """An array once the blocks of its rows are in it, one of which is in memory beside it."""
    for start, block in zip(_starts(whole), blocks, strict=True):
        whole[start : start + BLOCK] = block.numpy()
    return whole


def _index(rows: NDArray[Any], as_unit: AsUnit) -> Any:
    """An inverted file (Jégou et al., 2011) of the rows, by faiss: a query looks at the lists nearest to it."""
    try:
        import faiss
    except ImportError:
        raise FeaturesError(
            f"{len(rows):,} images came, and more than {EXACT_ROWS:,} need an index: pip install 'treehead[near]'"
        ) from None
    index: Any = faiss.index_factory(as_unit(rows[:1]).shape[1], f"IVF{min(LISTS, len(rows) // 40 + 1)},SQ8")
    index.nprobe, index.cp.niter = LOOKED_AT, ROUNDS
    index.sq.rangestat_arg = MARGIN
    index.cp.min_points_per_centroid = index.cp.max_points_per_centroid = PER_LIST
    order = np.random.default_rng(0).permutation(len(rows))[: PER_LIST * index.nlist]
    some = rows[np.sort(order)]
    index.train(_filled(np.empty((len(some), index.d), np.float32), map(as_unit, _blocks(some))))
    for block in map(as_unit, _blocks(rows)):
        index.add(block.numpy())
    return index
