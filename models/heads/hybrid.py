"""Trees and the other heads together: a mean of their probabilities, as unseen rows weigh them.

The weights come from what the parts say of rows that they have not seen, drawn towards equal ones where those are few.
A part that adds nothing gets no weight and is left out. Saved as a scikit-learn VotingClassifier, so that all parts
travel in one file and prediction needs nothing but features. A clone of it fits other data as scikit-learn does, with
these weights and rounds, but without the choices that were made here.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import LinearConstraint, minimize
from sklearn.ensemble import VotingClassifier
from sklearn.preprocessing import LabelEncoder
from sklearn.utils import Bunch

from features.table.joined import JoinedTable
from models.calibration import LEAST, log_loss
from models.columns.workspace import Workspace
from models.fitted import Arrays, array_of, as_fitted, below
from models.heads.head import Head, JsonObject, OnStep, Step
from models.heads.settings import HybridSettings

PRIOR_ROWS = 5.0
"""How many nats validation has to offer, in all, to move the weights far from equal ones."""

LEAST_WEIGHT = 0.01
"""A part below this is left out."""


class HybridHead(Head):
    """Heads whose probabilities are averaged: its parts, which learn first, unless `take` has handed them over."""

    settings: HybridSettings
    model_: VotingClassifier

    def parameters(self) -> JsonObject:
        """The parts, each with its own parameters, and the seed."""
        return {"parts": {part.name: part.parameters() for part in self.parts}, "seed": self.seed}

    def steps(self) -> int:
        """The steps of the parts that are still to learn, and one for the weights."""
        return 1 + (0 if self._learnt else sum(part.steps() for part in self.parts))

    def fit(self, table: JoinedTable, workspace: Workspace, on_step: OnStep) -> Self:
        """See Head; the time that its parts took counts, wherever they have learnt."""
        parts = self._learnt or tuple(
            part.fit(table, workspace, lambda step: on_step(Step(step.note, None))) for part in self.parts
        )
        start = time.perf_counter()
        loss = self._weigh(parts)
        self.fit_seconds_ = sum(part.fit_seconds_ for part in parts) + time.perf_counter() - start
        self.classes_ = table.classes
        on_step(Step(f"validation log-loss {loss:.4f}", loss))
        return self

    def _weigh(self, parts: Sequence[Head]) -> float:
        """Weigh what has been learnt by what was said of unseen rows; returns their log-loss."""
        y = parts[0].unseen_.labels
        shares = {part.name: part.unseen_.probabilities for part in parts}
        weights, loss = blend(list(shares.values()), y)
        self.learned_ = {
            "validation_log_loss": loss,
            "weights": dict(zip(shares, map(float, weights), strict=True)),
            "alone": {name: log_loss(share, y) for name, share in shares.items()},
            "without": {
                name: blend([share for other, share in shares.items() if other != name], y)[1] for name in shares
            },
        }
        used = [part for part, weight in zip(parts, weights, strict=True) if weight > 0]
        learnt = {f"{part.name}.{name}": array for part in used for name, array in part.arrays_.items()}
        mean = np.tensordot(weights, np.stack(list(shares.values())), axes=1).astype(np.float32)
        self.settle({"weights": weights, **learnt}, replace(parts[0].unseen_, probabilities=mean))
        return loss

    def build(self, arrays: Arrays) -> VotingClassifier:
        """See Head. `estimators` are yet to be fitted, as a fit leaves them, and `estimators_` have learnt."""
        weights = array_of(arrays, "weights", np.float64, len(self.parts))
        used = [part for part, weight in zip(self.parts, weights, strict=True) if weight > 0]
        fitted = {part.name: part.build(below(part.name, arrays)) for part in used}
        if len({(len(model.classes_), model.n_features_in_) for model in fitted.values()}) != 1:
            raise ValueError("parts of other classes or other columns than one another's")
        templates = [(part.name, part.unfitted(fitted[part.name])) for part in used]
        labels = LabelEncoder().fit(next(iter(fitted.values())).classes_)
        return as_fitted(
            VotingClassifier(templates, voting="soft", weights=weights[weights > 0]),
            estimators_=list(fitted.values()),
            named_estimators_=Bunch(**fitted),
            le_=labels,
            classes_=labels.classes_,
        )


def blend(shares: Sequence[NDArray[np.float32]], y: NDArray[np.int32]) -> tuple[NDArray[np.float64], float]:
    """Weights, none negative, their sum 1, of several heads' probabilities (n, k), and the log-loss of their mean.

    >>> y = np.zeros(1000, np.int32)
    >>> sure = np.tile(np.array([0.95, 0.05], np.float32), (1000, 1))
    >>> guess = np.tile(np.array([0.5, 0.5], np.float32), (1000, 1))
    >>> weights, loss = blend([sure, guess], y)
    >>> weights.tolist(), round(loss, 3)
    ([1.0, 0.0], 0.051)
    """
    right = np.stack([share[np.arange(len(y)), y] for share in shares]).astype(np.float64)
    even = np.full(len(shares), 1 / len(shares))

    def objective(weights: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        mean = np.maximum(weights @ right, LEAST)
        pull = PRIOR_ROWS / len(y)
        loss = -np.log(mean).mean() + pull * np.sum((weights - even) ** 2)
        return float(loss), -(right / mean).mean(axis=1) + 2 * pull * (weights - even)

    found = minimize(
        objective,
        even,
        jac=True,
        method="SLSQP",
        bounds=[(0, 1)] * len(shares),
        constraints=LinearConstraint(np.ones((1, len(shares))), 1, 1),
        options={"ftol": 1e-9},
    ).x
    weights = np.where(found < LEAST_WEIGHT, 0.0, found)
    weights /= weights.sum()
    return weights, log_loss(np.tensordot(weights, np.stack(shares), axes=1), y)
