"""Fisher's linear discriminant on wide features: what a linear head knows, as columns that trees can start from.

Rows are seen once, batch by batch; all else follows from the classes' means and one matrix of second moments. The
covariance within classes is shrunk towards a multiple of the identity (Friedman 1989, Regularized Discriminant
Analysis; scikit-learn's LinearDiscriminantAnalysis with solver="eigen"), as much as validation asks for.

A model knows the rows that it was fitted on too well, and trees would trust it too much there. So training rows get
the columns of a model that was fitted without them, one of FOLDS.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from models.scratch import Scratch

FOLDS = 5

SHRINKAGES = (0.003, 0.03, 0.1, 0.3, 0.6, 0.9)
"""Shares of the identity to try."""


@dataclass(frozen=True, kw_only=True)
class Moments:
    """`counts` (k,) and `sums` (k, d) of each class's rows, and all rows' `products` (d, d), float32.

    Rows are counted from somewhere near their mean, so that the products do not swallow the differences.
    """

    counts: torch.Tensor
    sums: torch.Tensor
    products: torch.Tensor

    def without(self, others: Moments) -> Moments:
        """The moments of the rows that are not among `others`."""
        return Moments(
            counts=self.counts - others.counts,
            sums=self.sums - others.sums,
            products=self.products - others.products,
        )


@dataclass(frozen=True, kw_only=True)
class Direction:
    """`weights` (d, k) and `bias` (k,) float32: x @ weights + bias are the classes' discriminant scores."""

    weights: torch.Tensor
    bias: torch.Tensor


@dataclass(frozen=True, kw_only=True)
class Discriminants:
    """The columns for trees: discriminant axes, k − 1, then class scores, k.

    `model` makes them of any rows; `fold_weights` holds the (d, 2k − 1) float32 of each fold, for training rows;
    `shrinkage` is what validation chose.
    """

    model: LinearDiscriminantAnalysis
    shrinkage: float
    fold_weights: Sequence[torch.Tensor]

    @property
    def weights(self) -> torch.Tensor:
        """(d, 2k − 1) float32 for rows that were not trained on."""
        return torch.from_numpy(self.model.scalings_)


def fit_discriminants(train: Scratch, validation: Scratch, classes: int, device: torch.device) -> Discriminants:
    """Fit on training rows, with the shrinkage that gives validation rows the lowest log-loss."""
    first = next(train.batches())[1].float().mean(dim=0).to(device)
    folds = [_moments(train, classes, fold, first) for fold in range(FOLDS)]
    whole = Moments(
        counts=sum((fold.counts for fold in folds), torch.zeros((), device=device)),
        sums=sum((fold.sums for fold in folds), torch.zeros((), device=device)),
        products=sum((fold.products for fold in folds), torch.zeros((), device=device)),
    )
    rows = validation.read().to(device).float() - first
    tried = {}
    for shrinkage in SHRINKAGES:
        with suppress(RuntimeError):  # too little of the identity for so few rows
            direction = solve(whole, shrinkage)
            scores = (rows @ direction.weights + direction.bias).double().cpu().numpy()
            tried[shrinkage] = _calibrated_log_loss(scores, validation.labels)
    shrinkage = min(tried, key=lambda each: tried[each])
    direction = solve(whole, shrinkage)
    turn = torch.hstack([_axes(whole, direction), torch.eye(classes, device=device)])
    fold_weights = [solve(whole.without(fold), shrinkage).weights @ turn for fold in folds]
    model = _as_scikit_learn((direction.weights @ turn).cpu().numpy(), shrinkage, classes)
    return Discriminants(model=model, shrinkage=shrinkage, fold_weights=fold_weights)


def fold_of(rows: slice) -> NDArray[np.intp]:
    """The fold of each of `rows`."""
    return np.arange(rows.start, rows.stop) % FOLDS


def solve(moments: Moments, shrinkage: float) -> Direction:
    """The discriminant scores' weights: the inverse of the shrunk covariance within classes, times the classes' means.

    Means are counted from the mean of all rows. A class without rows gets no weight.
    """
    total = moments.counts.sum()
    means = moments.sums / moments.counts.clamp(min=1)[:, None]
    centre = moments.sums.sum(dim=0) / total
    within = (moments.products - moments.sums.T @ means) / total
    identity = within.diagonal().mean().clamp(min=1e-12)
    within.mul_(1 - shrinkage).diagonal().add_(shrinkage * identity)
    offsets = torch.where(moments.counts[:, None] > 0, means - centre, 0)
    weights = torch.cholesky_solve(offsets.T, torch.linalg.cholesky(within))
    prior = (moments.counts.clamp(min=0.5) / total).log()
    halfway = -((means + centre) * weights.T).sum(dim=1) / 2
    return Direction(weights=weights, bias=halfway + prior)


def _moments(rows: Scratch, classes: int, fold: int, zero: torch.Tensor) -> Moments:
    """The moments of one fold's rows, counted from `zero` (d,), on its device."""
    device = zero.device
    counts = torch.zeros(classes, device=device)
    sums = torch.zeros(classes, rows.dim, device=device)
    products = torch.zeros(rows.dim, rows.dim, device=device)
    for part, batch in rows.batches():
        mine = torch.from_numpy(np.flatnonzero(fold_of(part) == fold))
        x = batch[mine].to(device).float() - zero
        labels = torch.from_numpy(rows.labels[part]).to(device)[mine.to(device)].long()
        members = torch.nn.functional.one_hot(labels, classes).float()
        counts += members.sum(dim=0)
        sums += members.T @ x
        products.addmm_(x.T, x)
    return Moments(counts=counts, sums=sums, products=products)


def _axes(moments: Moments, direction: Direction) -> torch.Tensor:
    """(k, k − 1): turns class scores to the axes along which classes differ most, within-class variance 1."""
    share = (moments.counts / moments.counts.sum()).sqrt()
    means = moments.sums / moments.counts.clamp(min=1)[:, None]
    between = (means - moments.sums.sum(dim=0) / moments.counts.sum()) @ direction.weights
    between = share[:, None] * (between + between.T) / 2 * share
    values, vectors = torch.linalg.eigh(between.double())
    values, vectors = values[1:].flip(0), vectors[:, 1:].flip(1)
    axes: torch.Tensor = share[:, None] * vectors / values.clamp(min=1e-6).sqrt()
    return axes.float()


def _calibrated_log_loss(scores: NDArray[np.float64], labels: NDArray[np.int32]) -> float:
    """Log-loss after the best temperature: how well scores tell classes apart, however far they lie from zero."""

    def loss(log_temperature: float) -> float:
        surprise = -log_softmax(scores * np.exp(log_temperature), axis=1)
        return float(surprise[np.arange(len(labels)), labels].mean())

    return float(minimize_scalar(loss, bounds=(-7, 3), method="bounded").fun)


def _as_scikit_learn(weights: NDArray[np.float32], shrinkage: float, classes: int) -> LinearDiscriminantAnalysis:
    """The weights as scikit-learn's users know them: `transform` multiplies by them."""
    model: Any = LinearDiscriminantAnalysis(solver="eigen", shrinkage=shrinkage)
    model.classes_ = np.arange(classes)
    model.scalings_ = weights
    model._max_components = weights.shape[1]
    model.n_features_in_ = weights.shape[0]
    fitted: LinearDiscriminantAnalysis = model
    return fitted
