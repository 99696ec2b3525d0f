"""Which columns tell classes apart: ANOVA's F value, from one pass over the rows; and the best of them put aside."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from sklearn.feature_selection import SelectKBest, f_classif

from features.table.joined import JoinedTable
from models.columns.workspace import Scratch


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """A table's best columns, put aside for as long as this lives.

    `select` takes them from whole rows; `places` (d,) ranks all columns of the table, see `rank_by_anova`; `train` and
    `validation` hold the columns' values; `seconds` is what it took.
    """

    select: SelectKBest
    places: NDArray[np.intp]
    train: Scratch
    validation: Scratch
    seconds: float


@lru_cache(maxsize=1)
def choose(table: JoinedTable, columns: int) -> Chosen:
    """Put the best `columns` of a table aside; heads that learn from one table after another find them there."""
    start = time.perf_counter()
    places = rank_by_anova(table)
    select = select_best(places, columns)
    support = select.get_support(indices=True)
    train, validation = Scratch(table, "train", support), Scratch(table, "validation", support)
    seconds = time.perf_counter() - start
    return Chosen(select=select, places=places, train=train, validation=validation, seconds=seconds)


def rank_by_anova(table: JoinedTable) -> NDArray[np.intp]:
    """The place of each column, (d,), 0 for the best, among those of its own node, by F value on the training rows.

    Nodes are ranked apart so that the best few of all give each node an equal share: an early layer repeats one good
    column many times over, and would crowd out the others. Columns that never change come last.
    """
    f = f_values(table)
    places = np.empty(table.dim, np.intp)
    start = 0
    for dim in table.dims:
        order = np.argsort(-f[start : start + dim], kind="stable")
        places[start + order] = np.arange(dim)
        start += dim
    return places


def select_best(places: NDArray[np.intp], columns: int) -> SelectKBest:
    """scikit-learn's selector of the `columns` that come first, as if it had ranked them itself."""
    select = SelectKBest(f_classif, k=min(columns, len(places)))
    select.scores_ = -places.astype(np.float64)
    select.n_features_in_ = len(places)
    return select


def f_values(table: JoinedTable) -> NDArray[np.float64]:
    """F value of each column, (d,) float64, as scikit-learn's f_classif has it; −1 for one that never changes."""
    classes = len(table.classes)
    sums = np.zeros((classes, table.dim))
    squares = np.zeros(table.dim)
    counts = np.zeros(classes)
    shift: NDArray[np.float32] | None = None  # near the mean, so that squares do not swallow the differences
    for rows in table.batches("train"):
        shift = rows.x.mean(axis=0) if shift is None else shift
        centred = rows.x - shift
        squares += np.einsum("ij,ij->j", centred, centred)
        members = np.equal.outer(np.arange(classes), rows.y).astype(np.float32)
        sums += members @ centred
        counts += members.sum(axis=1)
    total = counts.sum()
    between = (sums**2 / counts[:, None]).sum(axis=0) - sums.sum(axis=0) ** 2 / total
    within = squares - (sums**2 / counts[:, None]).sum(axis=0)
    constant = squares - sums.sum(axis=0) ** 2 / total <= 1e-9 * np.maximum(squares, 1e-30)
    with np.errstate(divide="ignore", invalid="ignore"):
        f = (between / (classes - 1)) / (within / max(total - classes, 1))
    return np.where(constant | np.isnan(f), -1.0, f)
