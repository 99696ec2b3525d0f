"""Fisher's linear discriminant on wide features: what a linear head knows, as columns that trees can start from.

All follows from the rows' moments; the covariance within classes is shrunk as much as left-out rows ask for
(scikit-learn's LinearDiscriminantAnalysis with solver="eigen").

A model knows the rows that it was fitted on too well, and trees would trust it too much there. So training rows get
the columns of a model that was fitted without them, one of FOLDS.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import ceil, inf

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.random_projection import GaussianRandomProjection

from models.calibration import calibrated
from models.columns.moments import Frame, Moments, fold_of, moments_of_folds
from models.columns.workspace import BATCH_ROWS, StoredRows
from models.errors import SettingsError
from models.fitted import as_fitted
from models.together import before, count, everyones, firsts

FOLDS = 5

MOST_AXES = 50
"""Axes at most: of many classes the scores alone are columns enough for trees to pay for."""

ENOUGH_ROWS = 1000
"""So many rows that were left out are enough to choose by."""

SHRINKAGES = (0.003, 0.03, 0.1, 0.3, 0.6, 0.9)
"""Shares of the identity to try."""


@dataclass(frozen=True, kw_only=True)
class Direction:
    """`weights` (r, k) and `bias` (k,) float32: x @ weights + bias are the classes' discriminant scores."""

    weights: torch.Tensor
    bias: torch.Tensor

    def scores(self, x: torch.Tensor) -> NDArray[np.float64]:
        """(n, k) scores of (n, r) float32 rows in the frame of the moments."""
        return (x @ self.weights + self.bias).double().cpu().numpy()


@dataclass(frozen=True, kw_only=True)
class Discriminants:
    """The columns for trees: a discriminant axes, k − 1 but at most MOST_AXES, then class scores, k.

    `weights` (d, a + k) float32 make them of rows that were not trained on; `fold_weights` holds those of each fold,
    for training rows (see `fold_of`, with `earlier`); `shrinkage` is what left-out training rows chose. All leave
    biases out: of classes with few rows they would tell trees which of these were held out.
    """

    weights: torch.Tensor
    shrinkage: float
    fold_weights: Sequence[torch.Tensor]
    earlier: int


def fit_discriminants(train: StoredRows, classes: int, device: torch.device) -> Discriminants:
    """Fit on training rows, with the shrinkage that gives rows of folds that are left out the lowest log-loss."""
    frame = Frame.spanned(train, device)
    folds = moments_of_folds(train, classes, FOLDS, frame)
    whole = Moments.together(folds)
    tried = _try_shrinkages(train, whole, folds)
    shrinkage = firsts(min(tried, key=lambda each: tried[each]))
    direction = solve(whole, shrinkage)
    turn = torch.hstack([_axes(whole, direction), torch.eye(classes, device=device)])
    weights, *fold_weights = (
        frame.raw((each.weights @ turn).T).T.contiguous()
        for each in (direction, *(solve(whole.without(fold), shrinkage) for fold in folds))
    )
    return Discriminants(weights=weights, shrinkage=shrinkage, fold_weights=fold_weights, earlier=before(len(train)))


def solve(moments: Moments, shrinkage: float) -> Direction:
    """The discriminant scores' weights: the inverse of the shrunk covariance within classes, times the classes' means.

    Means are counted from the mean of all rows. A class without rows gets no weight.
    """
    means, centre = moments.means, moments.centre
    offsets = torch.where(moments.counts[:, None] > 0, means - centre, 0)
    weights = torch.cholesky_solve(offsets.T, moments.root_within(shrinkage))
    prior = (moments.counts.clamp(min=0.5) / moments.counts.sum()).log()
    halfway = -((means + centre) * weights.T).sum(dim=1) / 2
    return Direction(weights=weights, bias=halfway + prior)


def _axes(moments: Moments, direction: Direction) -> torch.Tensor:
    """(k, a): turns class scores to the axes along which classes differ most, within-class variance 1."""
    share = (moments.counts / moments.counts.sum()).sqrt()
    between = (moments.means - moments.centre) @ direction.weights
    between = share[:, None] * (between + between.T) / 2 * share
    values, vectors = torch.linalg.eigh(between.double())
    values, vectors = values[1:].flip(0)[:MOST_AXES], vectors[:, 1:].flip(1)[:, :MOST_AXES]
    axes: torch.Tensor = share[:, None] * vectors / values.clamp(min=1e-6).sqrt()
    return axes.float()


def _try_shrinkages(train: StoredRows, whole: Moments, folds: Sequence[Moments]) -> dict[float, float]:
    """Calibrated log-loss of left-out training rows by shrinkage; as many folds of them as have ENOUGH_ROWS."""
    numbers = fold_of(slice(0, len(train)), len(folds), before(len(train)))
    judged = range(min(len(folds), ceil(len(folds) * ENOUGH_ROWS / count(len(train)))))
    rows = [np.flatnonzero(numbers == fold) for fold in judged]
    labels = everyones(np.concatenate([train.labels[numbers] for numbers in rows]))

    def scores_of(fold: int, shrinkage: float) -> Iterator[NDArray[np.float64]]:
        direction = solve(whole.without(folds[fold]), shrinkage)
        for start in range(0, len(rows[fold]), BATCH_ROWS):
            yield direction.scores(whole.frame.of(train.rows(rows[fold][start : start + BATCH_ROWS])))

    def loss(shrinkage: float) -> float:
        try:
            scores = [part for fold in judged for part in scores_of(fold, shrinkage)]
        except SettingsError:  # too little for the rows of the other folds
            return inf
        return float(calibrated(everyones(np.concatenate(scores)), labels, (-7, 3)).mean())

    return {shrinkage: loss(shrinkage) for shrinkage in SHRINKAGES}


def as_projection(weights: NDArray[np.float32], seed: int) -> GaussianRandomProjection:
    """`weights` (d, c) as a transformer of scikit-learn's that multiplies by them.

    Of those that do no more than that, this one has nothing else that `fit` would leave, and its clone fits any rows,
    fast and without their labels: trees trust columns too much that have seen those.
    """
    return as_fitted(
        GaussianRandomProjection(weights.shape[1], random_state=seed),
        components_=weights.T,
        n_components_=weights.shape[1],
        n_features_in_=weights.shape[0],
        _n_features_out=weights.shape[1],
    )
