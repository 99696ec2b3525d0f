"""The softmax probe: logistic regression on all columns, its L2 penalty chosen on validation.

Of several nodes each gets a probe of its own, and validation weighs their logits: together still one linear model.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax
from sklearn.linear_model import LogisticRegression

from features.joined import JoinedTable
from models.base import Head, OnStep, Step
from models.data import TrainingData
from models.settings import LinearSettings
from models.softmax import Softmax, blend_logits, fit_softmax


class LinearHead(Head):
    """Softmax regression by L-BFGS; saved as a scikit-learn LogisticRegression."""

    name: ClassVar[str] = "linear"
    on_gpu: ClassVar[bool] = False
    settings: LinearSettings

    def steps(self, table: JoinedTable) -> int:
        """Penalties to try for each node."""
        return len(self.settings.penalties) * len(table.tables)

    def _fit(self, data: TrainingData, on_step: OnStep) -> None:
        nodes = data.by_node()
        y = data.labels("validation")
        probes, logits, penalties = [], [], {}
        for node, rows in nodes.items():
            where = f"{node}, " if len(nodes) > 1 else ""
            probe, penalties[node], validation_logits = self._probe(rows, where, on_step)
            probes.append(probe)
            logits.append(validation_logits)
        shares = blend_logits(logits, y) if len(nodes) > 1 else np.ones(1)
        weights = np.hstack([share * probe.weights for share, probe in zip(shares, probes, strict=True)])
        bias = np.sum([share * probe.bias for share, probe in zip(shares, probes, strict=True)], axis=0)
        self.model_ = _regression(weights, bias)
        self.learned_ = {"validation_log_loss": _log_loss(np.tensordot(shares, np.stack(logits), axes=1), y)}
        if len(nodes) == 1:
            self.learned_["penalty"] = penalties[next(iter(nodes))]
        else:
            self.learned_ |= {"penalties": penalties, "weights": dict(zip(nodes, map(float, shares), strict=True))}

    def _probe(self, data: TrainingData, where: str, on_step: OnStep) -> tuple[Softmax, float, NDArray[np.float64]]:
        """The best probe of one node, its penalty, and its validation logits."""
        settings = self.settings
        (x, y), (x_validation, y_validation) = data.read_half("train"), data.read_half("validation")
        classes = len(data.classes)
        probe = Softmax(weights=np.zeros((classes, data.dim)), bias=np.zeros(classes))
        best: tuple[float, Softmax, float, NDArray[np.float64]] | None = None
        for penalty in settings.penalties:
            probe = fit_softmax(x, y, penalty=penalty, iterations=settings.iterations, start=probe)
            logits = probe.logits(x_validation)
            loss = _log_loss(logits, y_validation)
            on_step(Step(f"{where}L2 {penalty:g}, validation log-loss {loss:.4f}", None if where else loss))
            if best and loss >= best[0]:
                break
            best = loss, probe, penalty, logits
        assert best  # there is one penalty at least
        return best[1:]


def _regression(weights: NDArray[np.float64], bias: NDArray[np.float64]) -> LogisticRegression:
    """The model as scikit-learn's users know it; of two classes it holds the difference."""
    if len(bias) == 2:
        weights, bias = weights[1:] - weights[:1], bias[1:] - bias[:1]
    model: Any = LogisticRegression()
    model.classes_ = np.arange(max(2, len(bias)))
    model.coef_, model.intercept_ = weights.astype(np.float32), bias.astype(np.float32)
    model.n_features_in_ = weights.shape[1]
    regression: LogisticRegression = model
    return regression


def _log_loss(logits: NDArray[np.float64], y: NDArray[np.int32]) -> float:
    return -float(log_softmax(logits, axis=1)[np.arange(len(y)), y].mean())
