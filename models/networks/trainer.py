"""Trains a network: a schedule fitted to epochs or to minutes, a checkpoint after each epoch, the best kept.

All that an epoch draws follows from the seed and the epoch's number. A run that was killed repeats the epoch that it
was in, and on the CPU ends as if nothing had happened, to the bit; with a time budget it cannot, as steps follow the
clock.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from time import perf_counter

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.amp.grad_scaler import GradScaler
from torch.nn.functional import cross_entropy
from torch.nn.utils import clip_grad_norm_, convert_conv2d_weight_memory_format

from features.devices import PRECISIONS, is_out_of_memory, resolve_precision, to_device
from features.errors import first_line
from features.storage import replacing
from features.trunk.trunk import Trunk
from models.errors import TrainingError
from models.networks.epochs import Epoch, OnEpoch, OnPulse, Pulse
from models.networks.examples import Examples
from models.networks.network import Network, decayed
from models.networks.schedules import learning_rate
from models.networks.settings import TrainingSettings
from models.networks.teacher import WEIGHT, distance, taught_features

MOMENTUM = 0.9

LARGEST_GRADIENT = 1.0
"""Longer ones are cut to this norm: the first steps at a high learning rate would leave the data behind."""


class Trainer:
    """Trains `network`, which takes `examples` to (n, k) logits, where it is; what is frozen of it stays as it is.

    `before` are the epochs of earlier phases, of which `network` is the best: `history` goes on from them, and `best`
    is the epoch of the highest validation accuracy of all. With a `teacher` a Network that is taught learns to predict
    its features as well.
    """

    def __init__(
        self,
        network: nn.Module,
        examples: Examples,
        settings: TrainingSettings,
        *,
        seed: int,
        before: Sequence[Epoch] = (),
        teacher: Trunk | None = None,
    ) -> None:
        self.network = convert_conv2d_weight_memory_format(network, torch.channels_last)
        self.examples = examples
        self.settings = settings
        self.seed = seed
        self.device = device = next(network.parameters()).device
        self.teacher = teacher
        self.precision = resolve_precision(settings.precision, device)
        self.history = list(before)
        self._before = len(before)
        self._began = before[-1].seconds if before else 0.0
        self._optimizer = _optimizer(network, settings)
        self._labels = examples.labels("train")
        self._class_weights = _class_weights(self._labels).to(device) if settings.class_weights else None
        self._scaler = GradScaler(device.type, enabled=self.precision == "fp16")
        self._best_state = _copied(network)

    @property
    def best(self) -> Epoch:
        """The epoch of the highest validation accuracy, of several the one with the lowest validation loss."""
        return max(self.history, key=lambda epoch: (epoch.validation_accuracy, -epoch.validation_loss))

    def run(self, checkpoint: Path, on_pulse: OnPulse, on_epoch: OnEpoch) -> None:
        """Train to the end, from `checkpoint` on where there is one; the network then is what it was at its best.

        Raises TrainingError where the loss is no number, memory is too small, or the checkpoint is damaged.
        """
        with torch.random.fork_rng(devices=[self.device] if self.device.type == "cuda" else []), self._memory():
            if checkpoint.exists():
                self._resume(checkpoint)
            start = perf_counter() - self._spent
            while self._share(len(self.history) - self._before, self._spent) < 1 and not self._out_of_patience:
                self.history.append(self._run_epoch(start, on_pulse))
                improved = self.best is self.history[-1]
                if improved:
                    self._best_state = _copied(self.network)
                self._save(checkpoint)
                on_epoch(self.history, improved)
        self.network.load_state_dict(self._best_state)

    @property
    def _out_of_patience(self) -> bool:
        patience, done = self.settings.patience, len(self.history)
        return bool(patience and done > self._before) and done - max(self.best.epoch, self._before) >= patience

    @property
    def _spent(self) -> float:
        """Seconds that the epochs done have taken, earlier phases left out."""
        return self.history[-1].seconds - self._began if self.history else 0.0

    def _share(self, epochs: float, seconds: float) -> float:
        """How much of the schedule is over after so many epochs, which took so many seconds."""
        minutes = self.settings.minutes
        return epochs / self.settings.epochs if minutes is None else seconds / (60 * minutes)

    def _run_epoch(self, start: float, on_pulse: OnPulse) -> Epoch:
        began = perf_counter()
        number, done = len(self.history) + 1, len(self.history) - self._before
        seed = int(np.random.SeedSequence([self.seed, number]).generate_state(1)[0])
        torch.manual_seed(seed)  # for what a network draws itself, as dropout does
        generator = torch.Generator().manual_seed(seed)
        batches = self._batches(generator)
        total, images = torch.zeros((), device=self.device), 0
        self.network.train()
        for step, (kept, labels) in enumerate(self._read_ahead(batches)):
            share = self._share(done + step / len(batches), perf_counter() - start)
            rate = learning_rate(share, self.settings)
            for group in self._optimizer.param_groups:
                group["lr"] = rate
            total += self._step(self.examples.seen(kept, share, generator), labels) * len(labels)
            images += len(labels)
            share = self._share(done + (step + 1) / len(batches), perf_counter() - start)
            on_pulse(Pulse(epoch=number, images=images, share=min(1.0, share)))
            if self.settings.minutes is not None and share >= 1:
                break
        loss = float(total) / images  # waits for the device
        steps_seconds = perf_counter() - began
        validation_loss, accuracy = self._validate()
        if not math.isfinite(loss + validation_loss):
            raise TrainingError(f"the loss is {loss + validation_loss} in epoch {number}: give a lower `learning_rate`")
        return Epoch(
            epoch=number,
            images=images,
            seconds=self._began + perf_counter() - start,
            images_per_second=images / steps_seconds,
            learning_rate=rate,
            loss=loss,
            validation_loss=validation_loss,
            validation_accuracy=accuracy,
        )

    def _batches(self, generator: torch.Generator) -> list[NDArray[np.intp]]:
        """All training examples in random order, in as few batches as hold no more than was asked for, all alike.

        None has one example alone, of which batch norms would learn nothing.
        """
        order = torch.randperm(len(self._labels), generator=generator).numpy()
        count = min(math.ceil(len(order) / self.settings.batch_images), len(order) // 2)
        return np.array_split(order, max(1, count))

    def _read(self, numbers: NDArray[np.intp]) -> tuple[torch.Tensor, torch.Tensor]:
        """Training examples and their labels, on the device."""
        kept = to_device(self.examples.read("train", numbers), self.device)
        return kept, to_device(self._labels[torch.from_numpy(numbers)], self.device)

    def _read_ahead(self, batches: Sequence[NDArray[np.intp]]) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Examples and labels of each batch, read while the step before it is computed."""
        with ThreadPoolExecutor(1) as reader:
            ahead = reader.submit(self._read, batches[0])
            for numbers in batches[1:]:
                read, ahead = ahead, reader.submit(self._read, numbers)
                yield read.result()
            yield ahead.result()

    def _step(self, inputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """One step of the optimizer; returns the loss, on the device, so that nothing waits for it."""
        with self._autocast():
            logits, taught = self._outputs(inputs)
        losses = cross_entropy(logits.float(), labels, label_smoothing=self.settings.label_smoothing, reduction="none")
        # Not torch's own weights: those weigh the smoothed share of each class by that class, not by the image's.
        weights = torch.ones_like(losses) if self._class_weights is None else self._class_weights[labels]
        loss = (weights * losses).sum() / weights.sum() + WEIGHT * taught
        self._optimizer.zero_grad()
        torch.autograd.backward(self._scaler.scale(loss))
        self._scaler.unscale_(self._optimizer)
        clip_grad_norm_([p for group in self._optimizer.param_groups for p in group["params"]], LARGEST_GRADIENT)
        self._scaler.step(self._optimizer)
        self._scaler.update()
        return loss.detach()

    def _outputs(self, inputs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | float]:
        """Logits, and how far what the network predicts is from what its teacher gives."""
        if self.teacher is None:
            return self.network(inputs), 0.0
        assert isinstance(self.network, Network)
        features = self.network.features(inputs)
        predicted = self.network.predict_teacher(features)
        return self.network.classify(features), distance(predicted, taught_features(self.teacher, inputs))

    @torch.inference_mode()
    def _validate(self) -> tuple[float, float]:
        """Log-loss and accuracy on the validation examples, as prediction would see them."""
        labels = self.examples.labels("validation").to(self.device)
        self.network.eval()
        logits = []
        for start in range(0, len(labels), self.settings.batch_images):
            numbers = np.arange(start, min(start + self.settings.batch_images, len(labels)))
            kept = to_device(self.examples.read("validation", numbers), self.device)
            with self._autocast():
                logits.append(self.network(self.examples.whole(kept)).float())
        scores = torch.cat(logits)
        # A quotient of counts, as a linear probe's is: rounded to float32, one of two equals would look better.
        right = int((scores.argmax(1) == labels).sum())
        return float(cross_entropy(scores, labels)), right / len(labels)

    def _autocast(self) -> torch.autocast:
        dtype = PRECISIONS[self.precision]
        return torch.autocast(self.device.type, dtype, enabled=dtype != torch.float32)

    @contextmanager
    def _memory(self) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            raise TrainingError(
                f"{self.settings.batch_images} {self.examples.kind} do not fit the memory of {self.device}: "
                "give fewer `batch_images`, or a smaller `image_size`"
            ) from error

    def _save(self, checkpoint: Path) -> None:
        content = {
            "history": [asdict(epoch) for epoch in self.history],
            "network": self.network.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "scaler": self._scaler.state_dict(),
            "best": self._best_state,
        }
        saved = io.BytesIO()  # to a file that takes no more, torch would say that positions differ
        torch.save(content, saved)
        with replacing(checkpoint) as scratch:
            scratch.write_bytes(saved.getbuffer())

    def _resume(self, checkpoint: Path) -> None:
        try:
            content = torch.load(checkpoint, map_location="cpu", weights_only=True)
            self.network.load_state_dict(content["network"])
            self._optimizer.load_state_dict(content["optimizer"])
            self._scaler.load_state_dict(content["scaler"])
            self._best_state = content["best"]
            self.history = [Epoch(**epoch) for epoch in content["history"]]
        except (torch.OutOfMemoryError, OSError):
            raise  # which say nothing against the checkpoint
        except Exception as error:  # a damaged zip, another network's names, a pickle of something else
            raise TrainingError(
                f"cannot go on from {checkpoint} ({first_line(error)}): delete it to train from the start"
            ) from error


def _copied(network: nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in network.state_dict().items()}


def _optimizer(network: nn.Module, settings: TrainingSettings) -> torch.optim.Optimizer:
    groups = decayed(network, settings.weight_decay)
    if settings.optimizer == "adam":
        return torch.optim.AdamW(groups, lr=settings.rate)
    return torch.optim.SGD(groups, lr=settings.rate, momentum=MOMENTUM, nesterov=True)


def _class_weights(labels: torch.Tensor) -> torch.Tensor:
    """Weights (k,) under which every class counts as if it had as many training examples, one on average."""
    counts = torch.bincount(labels).float()
    return counts.sum() / (len(counts) * counts)
