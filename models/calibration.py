"""Probabilities made sharper or flatter by one number, so that they are right as often as they say.

The inverse temperature (Guo et al. 2017, On Calibration of Modern Neural Networks) is fitted on what a head said of
rows that it had not seen. Targets are drawn in as Platt has it (1999), as if one more row had been wrong: a few rows
that are all right make nobody certain. It is kept where rows that it was not fitted on gain by it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

FOLDS = 5

LEAST = 1e-12
"""Probabilities are not held to be smaller than this."""


def smoothing(rows: int) -> float:
    """The share of each of so many rows' targets that goes to all classes alike, see Platt (1999)."""
    return 1 / (rows + 2)


def fit_sharpness(probabilities: NDArray[np.float32], y: NDArray[np.int32]) -> float:
    """The power to which probabilities (n, k) of unseen rows are to be raised, 1 where that gains nothing.

    >>> rng = np.random.default_rng(0)
    >>> y = rng.integers(0, 2, 2000)
    >>> said = np.where(rng.random(2000) < 0.8, y, 1 - y)
    >>> sure = np.where(np.arange(2) == said[:, None], 0.99, 0.01).astype(np.float32)
    >>> sharpness = fit_sharpness(sure, y.astype(np.int32))
    >>> print(f"{sharpened(sure, sharpness).max():.2f}")
    0.80
    """
    logits = _logits(probabilities)
    folds = np.arange(len(y)) % FOLDS
    gain = np.empty(len(y))
    for fold in np.unique(folds):
        kept, held = folds != fold, folds == fold
        sharpness = _fitted(logits[kept], y[kept], smoothing(int(kept.sum()))) if kept.any() else 1.0
        gain[held] = log_losses(logits[held], y[held]) - log_losses(sharpness * logits[held], y[held])
    return _fitted(logits, y, smoothing(len(y))) if gain.mean() > 0 else 1.0


def sharpened(probabilities: NDArray[np.float32], sharpness: float) -> NDArray[np.float32]:
    """Probabilities (n, k) raised to the power `sharpness`, each row's sum 1: what logits times it would say."""
    if sharpness == 1:
        return probabilities
    return np.exp(log_softmax(sharpness * _logits(probabilities), axis=1)).astype(np.float32)


def calibrated(scores: NDArray[np.float64], y: NDArray[np.int32], bounds: tuple[int, int]) -> NDArray[np.float64]:
    """Each row's log-loss, (n,), at the sharpness that suits all best, its logarithm within `bounds`.

    It says how well scores tell classes apart, however far they lie from zero.
    """
    return log_losses(_fitted(scores, y, 0.0, bounds) * scores, y)


def _fitted(
    logits: NDArray[np.float64], y: NDArray[np.int32], share: float, bounds: tuple[int, int] = (-3, 3)
) -> float:
    """The sharpness of lowest log-loss, where `share` of each target goes to all classes alike."""

    def loss(log_sharpness: float) -> float:
        surprise = -log_softmax(np.exp(log_sharpness) * logits, axis=1)
        return float((1 - share) * surprise[np.arange(len(y)), y].mean() + share * surprise.mean())

    return float(np.exp(minimize_scalar(loss, bounds=bounds, method="bounded").x))


def _logits(probabilities: NDArray[np.float32]) -> NDArray[np.float64]:
    return np.log(probabilities.astype(np.float64) + LEAST)


def log_losses(logits: NDArray[np.floating], y: NDArray[np.int32]) -> NDArray[np.float64]:
    """Each row's log-loss, (n,), of logits (n, k)."""
    return -log_softmax(logits, axis=1)[np.arange(len(y)), y]


def log_loss(probabilities: NDArray[np.floating], y: NDArray[np.int32]) -> float:
    """Mean log-loss of probabilities (n, k), none of them held to be smaller than LEAST."""
    return float(surprises(probabilities, y, LEAST).mean())


def surprises(probabilities: NDArray[np.floating], y: NDArray[np.int32], least: float) -> NDArray[np.float64]:
    """Each row's log-loss, (n,), of probabilities (n, k), none of them held to be smaller than `least`."""
    right = np.maximum(probabilities[np.arange(len(y)), y], least)
    losses: NDArray[np.float64] = -np.log(right, dtype=np.float64)
    return losses
