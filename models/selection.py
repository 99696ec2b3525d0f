"""Which columns tell classes apart: ANOVA's F value, from one pass over the rows."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from sklearn.feature_selection import SelectKBest, f_classif

from models.data import TrainingData


def select_by_anova(data: TrainingData, columns: int) -> SelectKBest:
    """Choose the `columns` with the highest F value on the training rows, as scikit-learn's f_classif does in memory.

    Columns that never change are chosen last.
    """
    select = SelectKBest(f_classif, k=min(columns, data.dim))
    select.scores_ = f_values(data)
    select.n_features_in_ = data.dim
    return select


def f_values(data: TrainingData) -> NDArray[np.float64]:
    """F value of each column, (d,) float64; −1 for one that never changes."""
    classes = len(data.classes)
    sums = np.zeros((classes, data.dim))
    squares = np.zeros(data.dim)
    counts = np.zeros(classes)
    shift: NDArray[np.float32] | None = None  # near the mean, so that squares do not swallow the differences
    for x, y in data.batches("train"):
        shift = x.mean(axis=0) if shift is None else shift
        centred = x - shift
        squares += np.einsum("ij,ij->j", centred, centred, dtype=np.float64)
        for label in np.unique(y):
            sums[label] += centred[y == label].sum(axis=0, dtype=np.float64)
        counts += np.bincount(y, minlength=classes)
    rows = counts.sum()
    between = (sums**2 / counts[:, None]).sum(axis=0) - sums.sum(axis=0) ** 2 / rows
    within = squares - (sums**2 / counts[:, None]).sum(axis=0)
    constant = squares - sums.sum(axis=0) ** 2 / rows <= 1e-9 * np.maximum(squares, 1e-30)
    with np.errstate(divide="ignore", invalid="ignore"):
        f = (between / (classes - 1)) / (within / max(rows - classes, 1))
    return np.where(constant | np.isnan(f), -1.0, f)
