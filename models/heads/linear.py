"""The softmax probe: logistic regression on the columns that tell classes apart, as many of each node.

Validation chooses the L2 penalty for each of a few shrinkages of the covariance within classes (see `softmax`), and
then weighs the logits of these models: together still one linear model.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline
from torch.nn.functional import cross_entropy

from features.table.joined import JoinedTable
from models.columns.moments import Frame, Moments, moments_of_folds
from models.columns.workspace import Chosen, StoredRows
from models.fitted import Arrays, array_of, as_fitted
from models.heads.head import ColumnsHead, OnStep, Step, chosen_columns
from models.heads.settings import LinearSettings
from models.heads.softmax import Softmax, SoftmaxRegression, blend_logits


class LinearHead(ColumnsHead):
    """Softmax regression in PyTorch; saved as a scikit-learn Pipeline that ends in a LogisticRegression."""

    settings: LinearSettings

    def steps(self, table: JoinedTable) -> int:
        """Penalties to try for each shrinkage, and one for the weights."""
        return len(self.settings.penalties) * len(self.settings.shrinkages) + 1

    def _fit(self, table: JoinedTable, chosen: Chosen, on_step: OnStep) -> None:
        frame = Frame.spanned(chosen.train, self.device)
        (moments,) = moments_of_folds(chosen.train, len(table.classes), 1, frame)
        train, validation = (_on(self.device, rows) for rows in (chosen.train, chosen.validation))
        penalties, models, logits = {}, [], []
        for shrinkage in self.settings.shrinkages:
            penalties[f"{shrinkage:g}"], model = self._best(moments, shrinkage, train, validation, on_step)
            models.append(model)
            logits.append(model.logits(validation[0]).double().cpu().numpy())
        shares = blend_logits(logits, chosen.validation.labels)
        blend = _mean(models, shares)
        self.learn({"places": chosen.places, "weights": blend.weights.cpu().numpy(), "bias": blend.bias.cpu().numpy()})
        loss = _log_loss(blend, *validation)
        on_step(Step(f"all shrinkages, validation log-loss {loss:.4f}", loss))
        self.learned_ = {
            "validation_log_loss": loss,
            "penalties": penalties,
            "weights": dict(zip(penalties, map(float, shares), strict=True)),
        }

    def softmax(self) -> Softmax:
        """What was learnt, for all columns of the table; those that were not chosen weigh nothing."""
        weights = self.model_.named_steps["columns"].inverse_transform(self.arrays_["weights"])
        return Softmax(weights=torch.from_numpy(weights), bias=torch.from_numpy(self.arrays_["bias"]))

    def build(self, arrays: Arrays) -> Pipeline:
        """See Head; of two classes the regression holds the difference."""
        weights = array_of(arrays, "weights", np.float32, None, None)
        bias = array_of(arrays, "bias", np.float32, len(weights))
        classes = np.arange(len(bias))
        if len(bias) == 2:
            weights, bias = weights[1:] - weights[:1], bias[1:] - bias[:1]
        regression = as_fitted(
            LogisticRegression(),
            classes_=classes,
            coef_=weights,
            intercept_=bias,
            n_features_in_=weights.shape[1],
            n_iter_=np.ones(1, np.int32),  # it is a sum of several fits
        )
        return Pipeline([("columns", chosen_columns(arrays, weights.shape[1])), ("linear", regression)])

    def _best(
        self, moments: Moments, shrinkage: float, train: Rows, validation: Rows, on_step: OnStep
    ) -> tuple[float, Softmax]:
        """The penalty of lowest validation log-loss, and the model it gives."""
        settings = self.settings
        regression = SoftmaxRegression(*train, moments.whitening(shrinkage), moments.counts / moments.counts.sum())
        best: tuple[float, float, Softmax] | None = None
        for penalty in settings.penalties:
            model = regression.fit(penalty, settings.iterations)
            loss = _log_loss(model, *validation)
            on_step(Step(f"shrinkage {shrinkage:g}, L2 {penalty:g}, validation log-loss {loss:.4f}", None))
            if best and loss >= best[0]:
                break
            best = loss, penalty, model
        assert best  # there is one penalty at least
        return best[1:]


Rows = tuple[torch.Tensor, torch.Tensor]
"""Features (n, d) float16 and labels (n,) int64 on the device of training."""


def _on(device: torch.device, rows: StoredRows) -> Rows:
    return rows.read().to(device), torch.from_numpy(rows.labels).long().to(device)


def _log_loss(model: Softmax, x: torch.Tensor, y: torch.Tensor) -> float:
    return float(cross_entropy(model.logits(x), y))


def _mean(models: list[Softmax], shares: NDArray[np.float64]) -> Softmax:
    """The model whose logits are the weighted sum of theirs."""
    pairs = list(zip(models, map(float, shares), strict=True))
    return Softmax(
        weights=torch.stack([share * model.weights for model, share in pairs]).sum(dim=0),
        bias=torch.stack([share * model.bias for model, share in pairs]).sum(dim=0),
    )
