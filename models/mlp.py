"""The neural head: dropout and dense layers, as AlexNet ends, which the trees are to replace."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from itertools import pairwise
from math import ceil
from pathlib import Path
from typing import ClassVar

import numpy as np
import safetensors.torch
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn.functional import cross_entropy
from torch.optim.lr_scheduler import OneCycleLR

from features.joined import JoinedTable
from models.base import Head, OnStep, Probabilities
from models.data import Labelled, TrainingData
from models.settings import MlpSettings

PREDICT_ROWS = 4096


class DenseLayers(nn.Module):
    """(n, d) float32 features, centred and scaled, through dropout, dense layers and ReLU, to (n, k) logits."""

    mean: torch.Tensor
    scale: torch.Tensor

    def __init__(self, widths: Sequence[int], dropout: float = 0.0) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(widths[0]))
        self.register_buffer("scale", torch.ones(()))
        self.dense = nn.ModuleList(nn.Linear(width, after) for width, after in pairwise(widths))
        self.dropout = nn.Dropout(dropout)

    def scale_to(self, x: NDArray[np.float32]) -> None:
        """Take each column's mean, and one scale for all of them, from training rows (n, d)."""
        mean = x.mean(axis=0)
        self.mean.copy_(torch.from_numpy(mean))
        self.scale.fill_(1 / max(float(np.sqrt(np.mean(np.square(x - mean)))), 1e-12))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits of the features."""
        x = (x - self.mean) * self.scale
        for layer in self.dense[:-1]:
            x = layer(self.dropout(x)).relu()
        logits: torch.Tensor = self.dense[-1](x)
        return logits


class MlpHead(Head):
    """Dense layers in PyTorch; saved as safetensors."""

    name: ClassVar[str] = "mlp"
    on_gpu: ClassVar[bool] = True
    suffixes: ClassVar[tuple[str, ...]] = (".safetensors",)
    settings: MlpSettings
    network_: DenseLayers

    def steps(self, table: JoinedTable) -> int:
        """Epochs."""
        return self.settings.epochs

    def _fit(self, data: TrainingData, on_step: OnStep) -> None:
        settings = self.settings
        train, validation = data.read("train"), data.read("validation")
        with torch.random.fork_rng():
            torch.manual_seed(self.seed)
            network = DenseLayers([data.dim, *settings.hidden, len(data.classes)], settings.dropout)
            network.scale_to(train[0])
            network.to(self.device)
            optimizer = torch.optim.AdamW(network.parameters(), weight_decay=settings.weight_decay, fused=True)
            steps = settings.epochs * ceil(len(train[1]) / settings.batch_rows)
            schedule = OneCycleLR(optimizer, settings.learning_rate, total_steps=steps, pct_start=0.1)
            best_loss, best_epoch, best_state = float("inf"), 0, network.state_dict()
            for epoch in range(1, settings.epochs + 1):
                self._train_epoch(network, optimizer, schedule, train)
                loss = self._validation_loss(network, validation)
                on_step(f"validation log-loss {loss:.4f}")
                if loss < best_loss:
                    best_loss, best_epoch, best_state = loss, epoch, copy.deepcopy(network.state_dict())
        network.load_state_dict(best_state)
        self.network_ = network.eval().cpu()
        self.learned_ = {"epochs": best_epoch, "validation_log_loss": best_loss}

    def _train_epoch(
        self, network: DenseLayers, optimizer: torch.optim.Optimizer, schedule: OneCycleLR, train: Labelled
    ) -> None:
        network.train()
        x, y = torch.from_numpy(train[0]), torch.from_numpy(train[1]).long()
        order, size = torch.randperm(len(y)), self.settings.batch_rows
        for start in range(0, len(y), size):
            rows = order[start : start + size]
            optimizer.zero_grad()
            torch.autograd.backward(cross_entropy(network(x[rows].to(self.device)), y[rows].to(self.device)))
            optimizer.step()
            schedule.step()

    def _validation_loss(self, network: DenseLayers, validation: Labelled) -> float:
        logits = torch.cat(list(_logits(network.eval(), validation[0], self.device)))
        return float(cross_entropy(logits, torch.from_numpy(validation[1]).long()))

    def predict_proba(self, x: NDArray[np.float32]) -> Probabilities:
        """Class probabilities of (n, d) float32 features, on the CPU."""
        logits = torch.cat(list(_logits(self.network_, x, torch.device("cpu"))))
        return logits.softmax(dim=1).numpy()

    def save(self, path: Path, suffix: str) -> None:
        """Write the layers, and the mean and scale of their input."""
        path.write_bytes(safetensors.torch.save(self.network_.state_dict()))

    def restore(self, path: Path) -> None:
        """Rebuild the layers from the shapes that `path` holds."""
        state = safetensors.torch.load_file(path)
        weights = [state[f"dense.{number}.weight"] for number in range((len(state) - 2) // 2)]
        network = DenseLayers([weights[0].shape[1], *(weight.shape[0] for weight in weights)])
        network.load_state_dict(state)
        self.network_ = network.eval()


@torch.inference_mode()
def _logits(network: DenseLayers, x: NDArray[np.float32], device: torch.device) -> Iterator[torch.Tensor]:
    """Logits on the CPU, PREDICT_ROWS rows at a time."""
    for start in range(0, len(x), PREDICT_ROWS):
        yield network(torch.from_numpy(x[start : start + PREDICT_ROWS]).to(device)).cpu()
