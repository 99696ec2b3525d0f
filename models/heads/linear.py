"""The softmax probe: logistic regression on the columns that tell classes apart, as many of each node.

Rows that it has not seen choose the L2 penalty for each of a few shrinkages of the covariance within classes (see
`softmax`), and then weigh the logits of these models: together still one linear model.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import softmax
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline

from models.calibration import log_losses
from models.columns.moments import Frame, moments_of_folds
from models.columns.workspace import Chosen, Lessons
from models.fitted import Arrays, array_of, as_fitted
from models.heads.head import ColumnsHead, OnStep, Probabilities, Step, chosen_columns
from models.heads.settings import LinearSettings
from models.heads.softmax import Softmax, SoftmaxRegression, blend_logits
from models.together import everyones, mean


class LinearHead(ColumnsHead):
    """Softmax regression in PyTorch; saved as a scikit-learn Pipeline that ends in a LogisticRegression."""

    shared: ClassVar[bool] = True
    settings: LinearSettings

    def steps(self) -> int:
        """Penalties to try for each shrinkage, and one for the weights."""
        return len(self.settings.penalties) * len(self.settings.shrinkages) + 1

    def _fit(self, lessons: Lessons, classes: int, on_step: OnStep) -> tuple[Arrays, Probabilities]:
        """See ColumnsHead. The weights of the shrinkages give it the scale that suits unseen rows best."""
        settings, learners = self.settings, [_Learner(each, classes, self.device) for each in lessons.tries]
        tried = [self._best(shrinkage, learners, lessons.labels, on_step) for shrinkage in settings.shrinkages]
        shares = blend_logits([everyones(best.logits) for best in tried], everyones(lessons.labels))
        models = [best.model for best in tried]
        if lessons.whole:
            whole = _Learner(lessons.whole, classes, self.device)
            models = [whole.learn(best.shrinkage, best.penalties, settings.iterations) for best in tried]
        blend = _mean(models, shares)
        logits = np.tensordot(shares, np.stack([best.logits for best in tried]), axes=1)
        loss = mean(log_losses(logits, lessons.labels))
        on_step(Step(f"all shrinkages, validation log-loss {loss:.4f}", loss))
        penalties = {f"{best.shrinkage:g}": best.penalties[-1] for best in tried}
        self.learned_ = {
            "validation_log_loss": loss,
            "penalties": penalties,
            "weights": dict(zip(penalties, map(float, shares), strict=True)),
        }
        learnt = {"weights": blend.weights.cpu().numpy(), "bias": blend.bias.cpu().numpy()}
        return {"places": lessons.last.places, **learnt}, softmax(logits, axis=1).astype(np.float32)

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
        self, shrinkage: float, learners: Sequence[_Learner], labels: NDArray[np.int32], on_step: OnStep
    ) -> _Best:
        """The penalty of lowest log-loss on unseen rows, those of all learners together, and what it gives."""
        penalties, iterations = self.settings.penalties, self.settings.iterations
        best: _Best | None = None
        paths = zip(*(learner.path(shrinkage, penalties, iterations) for learner in learners), strict=True)
        for number, (penalty, models) in enumerate(zip(penalties, paths, strict=True), start=1):
            logits = np.concatenate([learner.say(model) for learner, model in zip(learners, models, strict=True)])
            loss = mean(log_losses(logits, labels))
            on_step(Step(f"shrinkage {shrinkage:g}, L2 {penalty:g}, validation log-loss {loss:.4f}", None))
            if best and loss >= best.loss:
                break
            best = _Best(shrinkage, penalties[:number], loss, models[0], logits)
        assert best  # there is one penalty at least
        return best


@dataclass(frozen=True)
class _Best:
    """The last of `penalties` is the best with a shrinkage; `model` is what the first learner made of it.

    `logits` (m, k) is what all learners said of the rows that they had not seen, and `loss` their log-loss.
    """

    shrinkage: float
    penalties: tuple[float, ...]
    loss: float
    model: Softmax
    logits: NDArray[np.float64]


class _Learner:
    """Softmax regressions on the training rows of `chosen`, which say what they make of its validation rows."""

    def __init__(self, chosen: Chosen, classes: int, device: torch.device) -> None:
        (self._moments,) = moments_of_folds(chosen.train, classes, 1, Frame.spanned(chosen.train, device))
        self._x = chosen.train.read().to(device)
        self._y = torch.from_numpy(chosen.train.labels).long().to(device)
        self._unseen = chosen.validation.read().to(device)

    def path(self, shrinkage: float, penalties: Sequence[float], iterations: int) -> Iterator[Softmax]:
        """The model of each penalty, each fitted from the one before."""
        moments = self._moments
        prior = moments.counts / moments.counts.sum()
        regression = SoftmaxRegression(self._x, self._y, moments.whitening(shrinkage), prior)
        for penalty in penalties:
            yield regression.fit(penalty, iterations)

    def learn(self, shrinkage: float, penalties: Sequence[float], iterations: int) -> Softmax:
        """The model of the last penalty."""
        *_, last = self.path(shrinkage, penalties, iterations)
        return last

    def say(self, model: Softmax) -> NDArray[np.float64]:
        """Logits (m, k) of the validation rows."""
        return model.logits(self._unseen).double().cpu().numpy()


def _mean(models: list[Softmax], shares: NDArray[np.float64]) -> Softmax:
    """The model whose logits are the weighted sum of theirs."""
    pairs = list(zip(models, map(float, shares), strict=True))
    return Softmax(
        weights=torch.stack([share * model.weights for model, share in pairs]).sum(dim=0),
        bias=torch.stack([share * model.bias for model, share in pairs]).sum(dim=0),
    )
