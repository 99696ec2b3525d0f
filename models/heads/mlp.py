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
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import LabelBinarizer
from torch import nn
from torch.nn.functional import cross_entropy
from torch.optim.lr_scheduler import OneCycleLR

from features.table.joined import JoinedTable
from models.columns.moments import Whitening, moments_of_folds
from models.columns.workspace import BATCH_ROWS, Chosen
from models.fitted import as_fitted
from models.heads.head import ColumnsHead, OnStep, Step
from models.heads.settings import MlpSettings

LEAST_BATCH_ROWS = 8


class DenseLayers(nn.Module):
    """(n, d) whitened features through dropout, dense layers and ReLU, to (n, k) logits."""

    def __init__(self, widths: Sequence[int], *, input_dropout: float, dropout: float) -> None:
        super().__init__()
        self.dense = nn.ModuleList(nn.Linear(width, after) for width, after in pairwise(widths))
        self.input_dropout, self.dropout = nn.Dropout(input_dropout), nn.Dropout(dropout)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits of the features."""
        x = self.input_dropout(x.float())
        for number, layer in enumerate(self.dense[:-1]):
            x = layer(self.dropout(x) if number else x).relu()
        logits: torch.Tensor = self.dense[-1](x)
        return logits


@dataclass(frozen=True)
class Learnt:
    """Layers at the epoch of lowest validation log-loss, and the coordinates that they take."""

    layers: DenseLayers
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
        (moments,) = moments_of_folds(chosen.train, len(table.classes), 1, self.device)
        learnt: list[Learnt] = []
        for shrinkage in self.settings.shrinkages:
            lowest = min((each.loss for each in learnt), default=float("inf"))
            on_epoch = partial(_tell, on_step, shrinkage, lowest)
            learnt.append(self._learn(chosen, moments.whitening(shrinkage), shrinkage, on_epoch))
        best = min(learnt, key=lambda each: each.loss)
        self.model_ = Pipeline([("columns", chosen.select), ("mlp", self._classifier(best.layers, best.whitening))])
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
            widths = [chosen.train.dim, *settings.hidden, int(labels.max()) + 1]
            network = DenseLayers(widths, input_dropout=settings.input_dropout, dropout=settings.dropout)
            network.to(self.device)
            optimizer = torch.optim.AdamW(network.parameters(), weight_decay=settings.weight_decay, fused=True)
            batch_rows = max(LEAST_BATCH_ROWS, ceil(len(y) / settings.batches))
            steps = settings.epochs * ceil(len(y) / batch_rows)
            schedule = OneCycleLR(optimizer, settings.learning_rate, total_steps=steps, pct_start=0.1)
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
        network: DenseLayers,
        optimizer: torch.optim.Optimizer,
        schedule: OneCycleLR,
        batches: Iterable[tuple[torch.Tensor, torch.Tensor]],
    ) -> None:
        network.train()
        for x, y in batches:
            optimizer.zero_grad()
            torch.autograd.backward(cross_entropy(network(x.to(self.device)), y.to(self.device)))
            optimizer.step()
            schedule.step()

    @torch.inference_mode()
    def _log_loss(self, network: DenseLayers, x: torch.Tensor, y: torch.Tensor) -> float:
        network.eval()
        logits = torch.cat([network(part.to(self.device)).cpu() for part in torch.split(x, BATCH_ROWS)])
        return float(cross_entropy(logits, y))

    def _classifier(self, network: DenseLayers, whitening: Whitening) -> MLPClassifier:
        """The layers as scikit-learn's users know them.

        Whitening goes into the first layer; of two classes the last holds the difference.
        """
        state = network.state_dict()
        first = whitening.raw(state["dense.0.weight"].to(whitening.mean.device))
        state["dense.0.bias"] -= (first @ whitening.mean).cpu()
        state["dense.0.weight"] = first.cpu()
        layers = range(len(network.dense))
        coefs = [state[f"dense.{number}.weight"].T for number in layers]
        intercepts = [state[f"dense.{number}.bias"] for number in layers]
        classes = coefs[-1].shape[1]
        if classes == 2:
            coefs[-1] = coefs[-1][:, 1:] - coefs[-1][:, :1]
            intercepts[-1] = intercepts[-1][1:] - intercepts[-1][:1]
        numbers = np.arange(classes)
        return as_fitted(
            MLPClassifier(self.settings.hidden, random_state=self.seed),
            coefs_=[coef.numpy() for coef in coefs],
            intercepts_=[intercept.numpy() for intercept in intercepts],
            classes_=numbers,
            _label_binarizer=LabelBinarizer().fit(numbers),
            n_layers_=len(coefs) + 1,
            n_outputs_=coefs[-1].shape[1],
            out_activation_="logistic" if classes == 2 else "softmax",
            n_features_in_=coefs[0].shape[0],
        )


def _tell(on_step: OnStep, shrinkage: float, lowest: float, loss: float) -> None:
    """Tell of an epoch; the head's own loss is the lowest of this and of the shrinkages before."""
    on_step(Step(f"shrinkage {shrinkage:g}, validation log-loss {loss:.4f}", min(loss, lowest)))
