"""Softmax regression by L-BFGS on rows held in float16, so that a wide table fits into memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import logsumexp
from torch.nn.functional import log_softmax

CHUNK_ROWS = 256
"""Few enough for the processor's cache to hold them as float32."""


@dataclass(frozen=True, kw_only=True)
class Softmax:
    """`weights` (k, d) and `bias` (k,) float64: logits of (n, d) features x are x @ weights.T + bias."""

    weights: NDArray[np.float64]
    bias: NDArray[np.float64]

    def logits(self, x: NDArray[np.float16] | NDArray[np.float32]) -> NDArray[np.float64]:
        """Logits (n, k) of features (n, d)."""
        weights = torch.from_numpy(self.weights).float()
        parts = [(chunk.float() @ weights.T).double().numpy() for chunk in _chunks(torch.from_numpy(x))]
        return np.concatenate(parts) + self.bias


def fit_softmax(
    x: NDArray[np.float16], y: NDArray[np.int32], *, penalty: float, iterations: int, start: Softmax
) -> Softmax:
    """Minimise the mean log-loss of (n, d) rows plus `penalty` / 2 times the weights' squared length, from `start`.

    The features are scaled by one number to a root mean square of 1 first, so that a penalty means the same on every
    table; the weights that come back take them as they are. The bias is not penalised. Stops after `iterations` L-BFGS
    steps at the latest, which regularises as well.
    """
    scale = _scale(x)
    rows, labels = torch.from_numpy(x), torch.from_numpy(y).long()
    shape = start.weights.shape

    def objective(flat: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        weights, bias = _unpack(flat, shape)
        loss, slope, bias_slope = _loss(rows, labels, torch.from_numpy(weights * scale), torch.from_numpy(bias))
        loss += penalty / 2 * float(np.sum(weights**2))
        return loss, np.concatenate([(scale * slope + penalty * weights).ravel(), bias_slope])

    first = np.concatenate([start.weights.ravel() / scale, start.bias])
    found = minimize(
        objective,
        first,
        jac=True,
        method="L-BFGS-B",
        options={"maxiter": iterations, "maxcor": 10, "gtol": 1e-4, "ftol": 1e-7},
    )
    weights, bias = _unpack(found.x, shape)
    return Softmax(weights=weights * scale, bias=bias)


def blend_logits(logits: list[NDArray[np.float64]], y: NDArray[np.int32]) -> NDArray[np.float64]:
    """Weights, none negative, of several models' logits, each (n, k), that together give the least log-loss on y."""
    stacked = np.stack(logits)

    def objective(shares: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        blended = np.tensordot(shares, stacked, axes=1)
        surprise = blended - logsumexp(blended, axis=1, keepdims=True)
        error = np.exp(surprise)
        error[np.arange(len(y)), y] -= 1
        slope = np.tensordot(stacked, error, axes=([1, 2], [0, 1])) / len(y)
        return -float(surprise[np.arange(len(y)), y].mean()), slope

    even = np.full(len(logits), 1 / len(logits))
    found: NDArray[np.float64] = minimize(
        objective, even, jac=True, method="L-BFGS-B", bounds=[(0, None)] * len(logits)
    ).x
    return found


def _scale(x: NDArray[np.float16]) -> float:
    """What brings the root mean square of (n, d) features to 1."""
    squares = [float(chunk.float().square().sum(dtype=torch.float64)) for chunk in _chunks(torch.from_numpy(x))]
    return 1 / max(float(np.sqrt(sum(squares) / x.size)), 1e-12)


def _chunks(rows: torch.Tensor) -> Iterator[torch.Tensor]:
    for start in range(0, len(rows), CHUNK_ROWS):
        yield rows[start : start + CHUNK_ROWS]


def _unpack(flat: NDArray[np.float64], shape: tuple[int, ...]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    size = shape[0] * shape[1]
    return flat[:size].reshape(shape), flat[size:]


def _loss(
    rows: torch.Tensor, labels: torch.Tensor, weights: torch.Tensor, bias: torch.Tensor
) -> tuple[float, NDArray[np.float64], NDArray[np.float64]]:
    """Mean log-loss, and its slope in the weights and the bias."""
    weights, bias = weights.float(), bias.float()
    loss, slope, bias_slope = 0.0, torch.zeros_like(weights), torch.zeros_like(bias)
    for part, wanted in zip(_chunks(rows), _chunks(labels), strict=True):
        x = part.float()
        surprise = log_softmax((weights @ x.T).T + bias, dim=1)  # in this order it is nearly twice as fast
        loss -= float(surprise.gather(1, wanted[:, None]).sum(dtype=torch.float64))
        error = surprise.exp()
        error[torch.arange(len(wanted)), wanted] -= 1
        slope += error.T @ x
        bias_slope += error.sum(dim=0)
    return loss / len(labels), (slope.double() / len(labels)).numpy(), (bias_slope.double() / len(labels)).numpy()
