"""The neural head: dropout and dense layers, as AlexNet ends, which the trees are to replace.

Learns in PyTorch on the columns that tell classes apart, as many of each node, whitened (see `moments`) with the
shrinkage that unseen rows prefer; saved as a scikit-learn Pipeline that ends in an MLPClassifier, so that prediction
needs no PyTorch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from itertools import pairwise
from math import ceil, inf, isnan
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import softmax
from sklearn.neural_network import MLPClassifier
from sklearn.neural_network._stochastic_optimizers import AdamOptimizer
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import LabelBinarizer
from torch import nn
from torch.nn.functional import cross_entropy
from torch.optim.lr_scheduler import OneCycleLR

from models.calibration import log_losses
from models.columns.moments import Frame, Moments, Whitening, moments_of_folds
from models.columns.workspace import BATCH_ROWS, Chosen, Lessons
from models.fitted import Arrays, array_of, as_fitted, below
from models.heads.head import ColumnsHead, OnStep, Probabilities, Step, chosen_columns
from models.heads.settings import MlpSettings
from models.together import are_several, count, mean, total_of

LEAST_BATCH_ROWS = 8

Layers = dict[str, NDArray[np.float32]]
"""Weights (in, out) and biases (out,) for features as they are, by name and number."""


def dense_layers(widths: Sequence[int], *, input_dropout: float, dropout: float) -> nn.Sequential:
    """(n, d) float32 whitened features through dropout, dense layers and ReLU, to (n, k) logits."""
    layers: list[nn.Module] = []
    for number, (width, after) in enumerate(pairwise(widths[:-1])):
        layers += [nn.Dropout(dropout if number else input_dropout), nn.Linear(width, after), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(widths[-2], widths[-1]))


class MlpHead(ColumnsHead):
    """Dense layers in PyTorch; saved as a scikit-learn Pipeline."""

    shared: ClassVar[bool] = True
    settings: MlpSettings

    def steps(self) -> int:
        """Epochs, of all shrinkages."""
        return self.settings.epochs * len(self.settings.shrinkages)

    def _fit(self, lessons: Lessons, classes: int, on_step: OnStep) -> tuple[Arrays, Probabilities]:
        found: list[_Best] = []
        moments = [self._moments(chosen, classes) for chosen in lessons.tries]
        for shrinkage in self.settings.shrinkages:
            with ExitStack() as files:
                pairs = zip(lessons.tries, moments, strict=True)
                learners = [self._learner(chosen, classes, each.whitening(shrinkage), files) for chosen, each in pairs]
                least = min((each.loss for each in found), default=inf)
                found.append(self._epochs(shrinkage, learners, lessons.labels, on_step, least))
        best = min(found, key=lambda each: each.loss)  # of equal ones the first
        layers = self._layers(lessons.whole, classes, best) if lessons.whole else best.layers
        self.learned_ = {"shrinkage": best.shrinkage, "epochs": best.epoch, "validation_log_loss": best.loss}
        seen = {"epochs": np.array(best.epoch), "rows": np.array(best.epoch * len(lessons.last.train))}
        learnt = {"places": lessons.last.places, "loss": np.array(best.loss), **seen, **layers}
        return learnt, softmax(best.logits, axis=1)

    def _epochs(
        self, shrinkage: float, learners: Sequence[_Learner], labels: NDArray[np.int32], on_step: OnStep, least: float
    ) -> _Best:
        """The epoch of lowest log-loss on unseen rows, those of all learners together; `least` was lowest before."""
        best: _Best | None = None
        for epoch in range(1, self.settings.epochs + 1):
            logits = np.concatenate([learner.go_on() for learner in learners])
            loss = mean(log_losses(logits, labels))
            loss = inf if isnan(loss) else loss
            if best is None or loss < best.loss:
                best = _Best(shrinkage, epoch, loss, logits, learners[0].layers())
            on_step(Step(f"shrinkage {shrinkage:g}, validation log-loss {loss:.4f}", min(least, best.loss)))
        assert best  # there is one epoch at least
        return best

    def _layers(self, chosen: Chosen, classes: int, best: _Best) -> Layers:
        """What is learnt of these rows in as many epochs as were best."""
        with ExitStack() as files:
            learner = self._learner(chosen, classes, self._moments(chosen, classes).whitening(best.shrinkage), files)
            for _ in range(best.epoch):
                learner.go_on()
            return learner.layers()

    def _moments(self, chosen: Chosen, classes: int) -> Moments:
        (moments,) = moments_of_folds(chosen.train, classes, 1, Frame.spanned(chosen.train, self.device))
        return moments

    def _learner(self, chosen: Chosen, classes: int, whitening: Whitening, files: ExitStack) -> _Learner:
        train, validation = (whitening.of(rows, files) for rows in (chosen.train, chosen.validation))
        whitened = replace(chosen, train=train, validation=validation)
        return _Learner(self.settings, whitened, classes, whitening, self.seed, self.device)

    def sharper(self, arrays: Arrays, sharpness: float) -> Arrays:
        last = len(self.settings.hidden)
        factor = np.float32(sharpness)
        return {**arrays, **{name: factor * arrays[name] for name in (f"coefs.{last}", f"intercepts.{last}")}}

    def build(self, arrays: Arrays) -> Pipeline:
        """See Head; of two classes the last layer holds the difference."""
        coefs, intercepts = _dense(arrays)
        classes = np.arange(len(intercepts[-1]))
        if len(classes) == 2:
            coefs[-1] = coefs[-1][:, 1:] - coefs[-1][:, :1]
            intercepts[-1] = intercepts[-1][1:] - intercepts[-1][:1]
        model = MLPClassifier(tuple(map(len, intercepts[:-1])), random_state=self.seed)
        loss = float(array_of(arrays, "loss", np.float64))
        as_fitted(
            model,
            coefs_=coefs,
            intercepts_=intercepts,
            classes_=classes,
            n_layers_=len(coefs) + 1,
            n_outputs_=coefs[-1].shape[1],
            out_activation_="logistic" if len(classes) == 2 else "softmax",
            n_features_in_=len(coefs[0]),
            n_iter_=int(array_of(arrays, "epochs", np.int64)),
            t_=int(array_of(arrays, "rows", np.int64)),
            loss_=loss,
            best_loss_=loss,
            loss_curve_=[loss],  # of validation, as that chose the epoch
            validation_scores_=None,
            best_validation_score_=None,
            _best_coefs=coefs,
            _best_intercepts=intercepts,
            _no_improvement_count=0,
            _label_binarizer=LabelBinarizer().fit(classes),
            _random_state=None,  # any fit sets it; one that a NumPy has pickled is not read by all others
            _optimizer=AdamOptimizer(coefs + intercepts),
        )
        return Pipeline([("columns", chosen_columns(arrays, len(coefs[0]))), ("mlp", model)])


@dataclass(frozen=True)
class _Best:
    """The epoch of lowest log-loss so far: what was said of unseen rows, (m, k), and the first learner's layers."""

    shrinkage: float
    epoch: int
    loss: float
    logits: NDArray[np.float32]
    layers: Layers


class _Learner:
    """A network that learns from the training rows of `whitened`, an epoch at a time."""

    def __init__(
        self,
        settings: MlpSettings,
        whitened: Chosen,
        classes: int,
        whitening: Whitening,
        seed: int,
        device: torch.device,
    ) -> None:
        self._whitening = whitening
        self._x, self._unseen = whitened.train.read(), whitened.validation.read()
        self._y = torch.from_numpy(whitened.train.labels).long()
        rows = count(len(self._y))
        batch_rows = max(LEAST_BATCH_ROWS, ceil(rows / settings.batches))
        self._steps, self._batch_rows = ceil(rows / batch_rows), ceil(batch_rows * len(self._y) / rows)
        self._seed, self._epoch, self._device = seed, 0, device
        widths = [self._x.shape[1], *settings.hidden, classes]
        with self._drawing():
            network = dense_layers(widths, input_dropout=settings.input_dropout, dropout=settings.dropout)
        self._network = network.to(device)
        self._optimizer = torch.optim.AdamW(network.parameters(), weight_decay=settings.weight_decay, fused=True)
        highest = (
            settings.learning_rate * (whitening.inverse.shape[1] / widths[0]) ** 0.5
        )  # fewer inputs move outputs less
        self._schedule = OneCycleLR(self._optimizer, highest, total_steps=settings.epochs * self._steps, pct_start=0.1)

    def go_on(self) -> NDArray[np.float32]:
        """Learn for an epoch; what it then says of the validation rows, logits (m, k)."""
        self._epoch += 1
        self._network.train()
        with self._drawing():
            order = torch.randperm(len(self._y))
            for step in range(self._steps):
                rows = order[step * self._batch_rows : (step + 1) * self._batch_rows]
                self._optimizer.zero_grad()
                logits = self._network(self._x[rows].to(self._device).float())
                torch.autograd.backward(cross_entropy(logits, self._y[rows].to(self._device)))
                self._share_slopes(len(rows))
                self._optimizer.step()
                self._schedule.step()
        return self._say()

    def _share_slopes(self, rows: int) -> None:
        """Make the slopes those of the batch of all processes, so many `rows` of which are here, or none."""
        if are_several():
            slopes = [each.grad.mul_(rows) for each in self._network.parameters() if each.grad is not None]
            seen = torch.tensor(float(rows))
            total_of([*slopes, seen])
            for slope in slopes:
                slope.div_(seen.to(slope.device))

    @torch.inference_mode()
    def _say(self) -> NDArray[np.float32]:
        self._network.eval()
        parts = [self._network(part.to(self._device).float()).cpu() for part in torch.split(self._unseen, BATCH_ROWS)]
        return torch.cat(parts).numpy()

    @contextmanager
    def _drawing(self) -> Iterator[None]:
        """Draws that seed and epoch decide, whoever else learns at the same time."""
        with torch.random.fork_rng():
            torch.manual_seed(self._seed + self._epoch)
            yield

    def layers(self) -> Layers:
        """The layers for features as they are: whitening goes into the first."""
        states = (layer.state_dict() for layer in self._network if isinstance(layer, nn.Linear))
        dense = [{name: tensor.clone() for name, tensor in state.items()} for state in states]
        first = self._whitening.raw(dense[0]["weight"].to(self._whitening.mean.device))
        dense[0]["bias"] -= first @ self._whitening.mean
        dense[0]["weight"] = first
        layers: Layers = {}
        for number, state in enumerate(dense):
            layers[f"coefs.{number}"] = state["weight"].T.cpu().numpy()
            layers[f"intercepts.{number}"] = state["bias"].cpu().numpy()
        return layers


def _dense(arrays: Arrays) -> tuple[list[NDArray[np.float32]], list[NDArray[np.float32]]]:
    """The weights and biases among `arrays`; raises ValueError unless each layer takes what the one before gives."""
    coefs: list[NDArray[np.float32]] = []
    intercepts: list[NDArray[np.float32]] = []
    for number in range(max(1, len(below("coefs", arrays)))):
        width = len(intercepts[-1]) if intercepts else None
        coefs.append(array_of(arrays, f"coefs.{number}", np.float32, width, None))
        intercepts.append(array_of(arrays, f"intercepts.{number}", np.float32, coefs[-1].shape[1]))
    return coefs, intercepts
