"""Which columns tell classes apart: ANOVA's F value, from one pass over the rows."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from sklearn.feature_selection import SelectKBest, f_classif

from features.table.joined import JoinedTable
from models.fitted import as_fitted
from models.together import firsts, total


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
    return as_fitted(
        select,
        scores_=-places.astype(np.float64),
        pvalues_=np.full(len(places), np.nan),  # places have none
        n_features_in_=len(places),
    )


def f_values(table: JoinedTable) -> NDArray[np.float64]:
    """F value of each column, (d,) float64, as scikit-learn's f_classif has it; −1 for one that never changes."""
    classes = len(table.classes)
    sums = np.zeros((classes, table.dim))
    squares = np.zeros(table.dim)
    counts = np.zeros(classes)
    shift: NDArray[np.float32] | None = None  # near the mean, so that squares do not swallow the differences
    for batch in table.batches("train"):
        shift = firsts(batch.x.mean(axis=0)) if shift is None else shift
        centred = batch.x.astype(np.float64) - shift
        squares += np.einsum("ij,ij->j", centred, centred)
        members = np.equal.outer(np.arange(classes), batch.y).astype(np.float64)
        sums += members @ centred
        counts += members.sum(axis=1)
    sums, squares, counts = total(sums), total(squares), total(counts)
    rows = counts.sum()
    between = (sums**2 / counts[:, None]).sum(axis=0) - sums.sum(axis=0) ** 2 / rows
    within = np.maximum(squares - (sums**2 / counts[:, None]).sum(axis=0), 0)  # rounding may leave less
    constant = squares - sums.sum(axis=0) ** 2 / rows <= 1e-9 * np.maximum(squares, 1e-30)
    with np.errstate(divide="ignore", invalid="ignore"):
        f = (between / (classes - 1)) / (within / max(rows - classes, 1))
    return np.where(constant | np.isnan(f), -1.0, f)
