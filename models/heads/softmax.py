"""Softmax regression by L-BFGS, in coordinates in which a class's rows vary alike in every direction.

A penalty on weights says that no direction of the features matters more than another. Where there are rows enough to
know how the rows of one class vary, it is better said of directions in which they vary alike, and the solver, too, gets
there in fewer steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import log_softmax

from models.calibration import smoothing
from models.columns.moments import Whitening
from models.together import count, total_of

CHUNK_ROWS = 256
"""Few enough for the processor's cache to hold them as float32."""


@dataclass(frozen=True, kw_only=True)
class Softmax:
    """`weights` (k, d) and `bias` (k,) float32: logits of (n, d) features are x @ weights.T + bias."""

    weights: torch.Tensor
    bias: torch.Tensor

    def logits(self, x: torch.Tensor) -> torch.Tensor:
        """Logits (n, k) of features (n, d) of any float type."""
        return torch.cat([chunk.float() @ self.weights.T for chunk in torch.split(x, CHUNK_ROWS)]) + self.bias


class SoftmaxRegression:
    """Fits x (n, d) float16 and labels y (n,) in the coordinates of `whitening`; each fit starts from the one before.

    It begins where the classes' shares `prior` (k,) are all it knows.
    """

    def __init__(self, x: torch.Tensor, y: torch.Tensor, whitening: Whitening, prior: torch.Tensor) -> None:
        self._chunks = list(zip(torch.split(x, CHUNK_ROWS), torch.split(y, CHUNK_ROWS), strict=True))
        self._rows = count(len(y))
        self._whitening = whitening
        self._weights = torch.zeros(len(prior), len(whitening.inverse), device=x.device)
        self._bias = prior.log()
        self._float = torch.empty(CHUNK_ROWS, x.shape[1], device=x.device)

    def fit(self, penalty: float, iterations: int) -> Softmax:
        """Minimise the mean log-loss plus `penalty` / 2 times the squared length of the whitened weights.

        The bias is not penalised. Stops after `iterations` steps at the latest.
        """
        weights, bias = self._weights, self._bias
        solver: Any = torch.optim.LBFGS(
            [weights, bias],
            max_iter=iterations,
            tolerance_grad=1e-4,
            tolerance_change=1e-6,
            line_search_fn="strong_wolfe",
        )

        def objective() -> float:
            loss, slope, bias.grad = self._loss(self._softmax())
            weights.grad = self._whitening.slope(slope) + penalty * weights
            return loss + penalty / 2 * float(weights.square().sum())

        solver.step(objective)
        return self._softmax()

    def _softmax(self) -> Softmax:
        """What is fitted, for features as they are."""
        raw = self._whitening.raw(self._weights)
        return Softmax(weights=raw, bias=self._bias - raw @ self._whitening.mean)

    def _loss(self, softmax: Softmax) -> tuple[float, torch.Tensor, torch.Tensor]:
        """Mean log-loss, and its slope in the weights for centred features and in the bias.

        One buffer for all chunks, and the features always on the right: with memory new or turned for each chunk this
        takes ten times as long.
        """
        loss = torch.zeros((), device=self._float.device)
        slope, bias_slope = torch.zeros_like(softmax.weights), torch.zeros_like(softmax.bias)
        for rows, labels in self._chunks:
            x = self._float[: len(rows)].copy_(rows)
            surprise = torch.log_softmax((softmax.weights @ x.T).T + softmax.bias, dim=1)
            loss -= surprise.gather(1, labels[:, None]).sum()
            error = surprise.exp_()
            error.scatter_add_(1, labels[:, None], -torch.ones_like(error[:, :1]))
            slope.addmm_(error.T, x)
            bias_slope += error.sum(dim=0)
        total_of([loss, slope, bias_slope])
        slope -= bias_slope[:, None] * self._whitening.mean
        return float(loss) / self._rows, slope / self._rows, bias_slope / self._rows


def blend_logits(logits: Sequence[NDArray[np.float64]], y: NDArray[np.int32]) -> NDArray[np.float64]:
    """Weights, none negative, of several models' logits, each (n, k), that together give the least log-loss on y.

    Targets are smoothed as for `calibration`: rows that are all right would make the weights grow without end.
    """
    stacked, share = np.stack(logits), smoothing(len(y))
    target = np.full(stacked.shape[1:], share / stacked.shape[2])
    target[np.arange(len(y)), y] += 1 - share

    def objective(shares: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        surprise = -log_softmax(np.tensordot(shares, stacked, axes=1), axis=1)
        error = np.exp(-surprise) - target
        slope = np.tensordot(stacked, error, axes=([1, 2], [0, 1])) / len(y)
        return float((target * surprise).sum()) / len(y), slope

    even = np.full(len(logits), 1 / len(logits))
    found: NDArray[np.float64] = minimize(
        objective, even, jac=True, method="L-BFGS-B", bounds=[(0, None)] * len(logits)
    ).x
    return found
