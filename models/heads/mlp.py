"""The neural head: dropout and dense layers, as AlexNet ends, which the trees are to replace.

Learns in PyTorch on the columns that tell classes apart, as many of each node, whitened (see `moments`) with the
shrinkage that validation prefers; saved as a scikit-learn Pipeline that ends in an MLPClassifier, so that prediction
needs no PyTorch.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from math import ceil

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.neural_network import MLPClassifier
from sklearn.neural_network._stochastic_optimizers import AdamOptimizer
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import LabelBinarizer
from torch import nn
from torch.nn.functional import cross_entropy
from torch.optim.lr_scheduler import OneCycleLR

from features.table.joined import JoinedTable
from models.columns.moments import Frame, Whitening, moments_of_folds
from models.columns.workspace import BATCH_ROWS, Chosen
from models.fitted import Arrays, array_of, as_fitted, below
from models.heads.head import ColumnsHead, OnStep, Step, chosen_columns
from models.heads.settings import MlpSettings

LEAST_BATCH_ROWS = 8


def dense_layers(widths: Sequence[int], *, input_dropout: float, dropout: float) -> nn.Sequential:
    """(n, d) float32 whitened features through dropout, dense layers and ReLU, to (n, k) logits."""
    layers: list[nn.Module] = []
    for number, (width, after) in enumerate(pairwise(widths[:-1])):
        layers += [nn.Dropout(dropout if number else input_dropout), nn.Linear(width, after), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(widths[-2], widths[-1]))


@dataclass(frozen=True)
class Learnt:
    """Layers at the epoch of lowest validation log-loss, and the coordinates that they take."""

    layers: nn.Sequential
    whitening: Whitening
    shrinkage: float
    epoch: int
    loss: float


class MlpHead(ColumnsHead):
    """Dense layers in PyTorch; saved as a scikit-learn Pipeline."""

    settings: MlpSettings

    def steps(self, table: JoinedTable) -> int:
        """Epochs, of all shrinkages."""
        return self.settings.epochs * len(self.settings.shrinkages)

    def _fit(self, table: JoinedTable, chosen: Chosen, on_step: OnStep) -> None:
        frame = Frame.spanned(chosen.train, self.device)
        (moments,) = moments_of_folds(chosen.train, len(table.classes), 1, frame)
        learnt: list[Learnt] = []
        for shrinkage in self.settings.shrinkages:
            lowest = min((each.loss for each in learnt), default=float("inf"))
            on_epoch = partial(_tell, on_step, shrinkage, lowest)
            learnt.append(self._learn(chosen, moments.whitening(shrinkage), shrinkage, on_epoch))
        best = min(learnt, key=lambda each: each.loss)
        seen = {"epochs": np.array(best.epoch), "rows": np.array(best.epoch * len(chosen.train))}
        layers = _raw_layers(best.layers, best.whitening)
        self.learn({"places": chosen.places, "loss": np.array(best.loss), **seen, **layers})
        self.learned_ = {"shrinkage": best.shrinkage, "epochs": best.epoch, "validation_log_loss": best.loss}

    def _learn(
        self, chosen: Chosen, whitening: Whitening, shrinkage: float, on_epoch: Callable[[float], None]
    ) -> Learnt:
        """The layers learnt on rows in these coordinates; `on_epoch` is told the validation log-loss after each."""
        settings, labels = self.settings, chosen.train.labels
        x, y = whitening.of(chosen.train), torch.from_numpy(labels).long()
        steer_x, steer_y = whitening.of(chosen.validation), torch.from_numpy(chosen.validation.labels).long()
        with torch.random.fork_rng():
            torch.manual_seed(self.seed)
            widths = [x.shape[1], *settings.hidden, int(labels.max()) + 1]
            network = dense_layers(widths, input_dropout=settings.input_dropout, dropout=settings.dropout)
            network.to(self.device)
            optimizer = torch.optim.AdamW(network.parameters(), weight_decay=settings.weight_decay, fused=True)
            batch_rows = max(LEAST_BATCH_ROWS, ceil(len(y) / settings.batches))
            steps = settings.epochs * ceil(len(y) / batch_rows)
            highest = settings.learning_rate * (chosen.train.dim / x.shape[1]) ** 0.5  # fewer inputs move outputs less
            schedule = OneCycleLR(optimizer, highest, total_steps=steps, pct_start=0.1)
            best_loss, best_epoch, best_state = float("inf"), 0, network.state_dict()
            for epoch in range(1, settings.epochs + 1):
                order = torch.split(torch.randperm(len(y)), batch_rows)
                self._train_epoch(network, optimizer, schedule, ((x[rows], y[rows]) for rows in order))
                loss = self._log_loss(network, steer_x, steer_y)
                on_epoch(loss)
                if loss < best_loss:
                    best_loss, best_epoch, best_state = loss, epoch, copy.deepcopy(network.state_dict())
        network.load_state_dict(best_state)
        return Learnt(network.cpu(), whitening, shrinkage, best_epoch, best_loss)

    def _train_epoch(
        self,
        network: nn.Module,
        optimizer: torch.optim.Optimizer,
        schedule: OneCycleLR,
        batches: Iterable[tuple[torch.Tensor, torch.Tensor]],
    ) -> None:
        network.train()
        for x, y in batches:
            optimizer.zero_grad()
            torch.autograd.backward(cross_entropy(network(x.to(self.device).float()), y.to(self.device)))
            optimizer.step()
            schedule.step()

    @torch.inference_mode()
    def _log_loss(self, network: nn.Module, x: torch.Tensor, y: torch.Tensor) -> float:
        network.eval()
        logits = torch.cat([network(part.to(self.device).float()).cpu() for part in torch.split(x, BATCH_ROWS)])
        return float(cross_entropy(logits, y))

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


def _raw_layers(network: nn.Sequential, whitening: Whitening) -> dict[str, NDArray[np.float32]]:
    """Weights (in, out) and biases (out,) of the layers, for features as they are: whitening goes into the first."""
    dense = [layer.state_dict() for layer in network if isinstance(layer, nn.Linear)]
    first = whitening.raw(dense[0]["weight"].to(whitening.mean.device))
    dense[0]["bias"] -= (first @ whitening.mean).cpu()
    dense[0]["weight"] = first.cpu()
    layers: dict[str, NDArray[np.float32]] = {}
    for number, state in enumerate(dense):
        layers[f"coefs.{number}"] = state["weight"].T.numpy()
        layers[f"intercepts.{number}"] = state["bias"].numpy()
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


def _tell(on_step: OnStep, shrinkage: float, lowest: float, loss: float) -> None:
    """Tell of an epoch; the head's own loss is the lowest of this and of the shrinkages before."""
    on_step(Step(f"shrinkage {shrinkage:g}, validation log-loss {loss:.4f}", min(loss, lowest)))
