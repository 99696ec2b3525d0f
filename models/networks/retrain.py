"""Retrains a network in one of the ways that the transfer-learning literature knows: what is trained, and how fast.

It goes phase after phase, each from the best so far. Source of lp-ft: Kumar et al., Fine-Tuning can Distort Pretrained
Features (2022): the first gradients from a new head undo some of what the network knows; those from a head that has
been fitted do not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import Any, Protocol

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from features.devices import resolve_precision
from features.sources.source import Source
from features.squares import Squares
from features.storage import Json, digest
from features.table.joined import JoinedTable
from features.trunk.loaded import Loaded
from models.card import Card
from models.columns.workspace import Workspace
from models.errors import SettingsError
from models.heads.linear import LinearHead
from models.networks.classifier import NetworkClassifier
from models.networks.epochs import Epoch
from models.networks.examples import Examples, FeatureExamples, ImageExamples
from models.networks.network import Network, add_norms
from models.networks.settings import (
    FREEZE,
    LP_FT,
    PHOTOGRAPHS,
    SCRATCH,
    WHOLE,
    RetrainSettings,
    TrainingSettings,
    Views,
)
from models.networks.trainer import Trainer

FORMAT = 2
"""Raised when the meaning of what is learnt, or of a checkpoint, changes."""

HEAD_FIRST = 0.3
"""Share of the schedule in which two-phase trains the head alone."""

LOWER_RATE = 0.1
"""The rest of two-phase learns at this share of the rate."""


@dataclass(frozen=True, kw_only=True)
class Phase:
    """A part of the training, which leaves `frozen` children alone: from where to where in the whole, as shares of it.

    `rate` is its share of the learning rate.
    """

    name: str
    frozen: tuple[str, ...]
    start: float = 0.0
    end: float = 1.0
    rate: float = 1.0

    def settings(self, settings: TrainingSettings) -> TrainingSettings:
        """This phase's part of the whole training's settings."""
        return replace(
            settings,
            epochs=max(1, round(self.end * settings.epochs) - round(self.start * settings.epochs)),
            minutes=settings.minutes and (self.end - self.start) * settings.minutes,
            learning_rate=self.rate * settings.rate,
        )


@dataclass(frozen=True, kw_only=True)
class Retraining:
    """What is to be trained: `network`, whose trunk is `loaded`, in `phases`, on the images of `source`.

    `settings` are all that decides what is learnt, besides images, `seed` and the kind of `device`.
    """

    source: Source
    loaded: Loaded
    network: Network
    phases: Sequence[Phase]
    training: TrainingSettings
    views: Views
    settings: Mapping[str, Any]
    seed: int
    device: torch.device

    @property
    def fingerprint(self) -> str:
        """SHA-256 (64 hex digits) of everything that decides what is learnt."""
        what: Json = {
            "format": (FORMAT, NetworkClassifier.format),
            "source": self.source.digest(),
            "device": self.device.type,
            "seed": self.seed,
            **self.settings,
        }
        return digest(what)

    def is_unchanging(self, phase: Phase) -> bool:
        """Whether the trunk gives the same features of an image throughout a phase: it is frozen, and sees it whole."""
        all_frozen = len(phase.frozen) == len(self.network.children_of_trunk())
        return all_frozen and self.views.whole and not self.training.first_size


class Supply(Protocol):
    """What a training may learn from, made when it is asked for: not every regime needs all of it."""

    def squares(self) -> Squares:
        """The images, decoded."""

    @property
    def table(self) -> JoinedTable:
        """What the network's trunk gives of every image before training."""

    def probe(self) -> tuple[LinearHead, Card]:
        """A linear head that has learnt from this table, and its card."""


Train = Callable[[Trainer, str, str], None]
"""Runs a trainer to its end; told the name of the checkpoint's file, and what is being trained."""


def phases_of(regime: str, children: Sequence[str]) -> list[Phase]:
    """The phases of a regime for a trunk of these children; raises SettingsError for one that is not among them."""
    everything = tuple(children)
    if regime == "feature-extraction":
        return [Phase(name="head", frozen=everything)]
    if regime in ("finetune", LP_FT, SCRATCH):
        return [Phase(name="all", frozen=())]
    if regime == "two-phase":
        first = Phase(name="head", frozen=everything, end=HEAD_FIRST)
        return [first, Phase(name="all", frozen=(), start=HEAD_FIRST, rate=LOWER_RATE)]
    count = regime.removeprefix(FREEZE)
    if not count.isdecimal() or not 1 <= int(count) <= len(everything):
        numbered = ", ".join(f"{number} {name}" for number, name in enumerate(everything, 1))
        raise SettingsError(f"`regime={regime}` names no child of the network: expected freeze:K with K of {numbered}")
    return [Phase(name=f"after {everything[int(count) - 1]}", frozen=everything[: int(count)])]


def plan_retraining(
    source: Source, loaded: Loaded, how: RetrainSettings, *, seed: int, device: torch.device
) -> Retraining:
    """Put a new head on `loaded`, whose weights are random where the regime is from scratch; nothing is trained yet.

    Raises SettingsError for what does not go together. The network learns in place: `loaded` is then another.
    """
    backbone, scratch = loaded.backbone, how.regime == SCRATCH
    training = how.training.resolved(resolve_precision(how.training.precision, device), from_scratch=scratch)
    views = how.views.over(WHOLE if source.mirror_matters else PHOTOGRAPHS)
    sha256 = loaded.sha256(backbone.node)
    if scratch:
        add_norms(backbone.network, seed)
    size, classes = loaded.recipe.image_size, len(source.classes)
    network = Network(backbone, classes, image_size=size, seed=seed, pool="auto", hidden=how.hidden)
    network.check_first_size(training.first_size, size)
    settings = {
        "regime": how.regime,
        "hidden": how.hidden,
        "backbone": backbone.name,
        "weights_sha256": sha256,
        "pretrained": loaded.weights.pretrained,
        "recipe": asdict(loaded.recipe),
        "training": asdict(training),
        "views": views.to_json(),
    }
    return Retraining(
        source=source,
        loaded=loaded,
        network=network,
        phases=phases_of(how.regime, network.children_of_trunk()),
        training=training,
        views=views,
        settings=settings,
        seed=seed,
        device=device,
    )


def retrain(plan: Retraining, supply: Supply, train: Train) -> tuple[NetworkClassifier, Epoch]:
    """Train phase after phase; returns the network at its best, and the epoch that this was."""
    history = [_start_from_probe(plan, supply)] if plan.settings["regime"] == LP_FT else []
    for number, phase in enumerate(plan.phases, 1):
        plan.network.freeze(phase.frozen)
        with _lesson(plan, phase, supply) as (module, examples):
            trainer = Trainer(
                module.to(plan.device), examples, phase.settings(plan.training), seed=plan.seed, before=history
            )
            train(trainer, f"checkpoint-{number}.pt", f"{plan.loaded.backbone.name}, {phase.name}, learns")
        history = trainer.history
    learnt = NetworkClassifier(seed=plan.seed, device=plan.device, settings=plan.settings)
    learnt.take(plan.network)
    learnt.classes_ = plan.source.classes
    learnt.fit_seconds_ = history[-1].seconds
    learnt.learned_ = {"epochs": len(history), "best_epoch": trainer.best.epoch}
    return learnt, trainer.best


@contextmanager
def _lesson(plan: Retraining, phase: Phase, supply: Supply) -> Iterator[tuple[nn.Module, Examples]]:
    """What is trained in a phase, and on what: the head alone on features where the trunk's never change."""
    if plan.is_unchanging(phase):
        with Workspace() as workspace:
            yield plan.network.head, FeatureExamples(supply.table, workspace)
    else:
        yield plan.network, ImageExamples(supply.squares(), plan.views, plan.training.first_size)


def _start_from_probe(plan: Retraining, supply: Supply) -> Epoch:
    """Let the network's head begin as the linear probe of its features; returns the probe as an epoch."""
    table, (probe, card) = supply.table, supply.probe()
    softmax = probe.softmax()
    plan.network.head.load_state_dict({"weight": softmax.weights, "bias": softmax.bias})
    rows = table.rows["train"]
    losses = [
        cross_entropy(softmax.logits(torch.from_numpy(part.x)), torch.from_numpy(part.y).long(), reduction="sum")
        for part in table.batches("train")
    ]
    return Epoch(
        epoch=1,
        images=rows,
        seconds=card.fit_seconds,
        images_per_second=rows / card.fit_seconds,
        learning_rate=0.0,
        loss=float(sum(losses)) / rows,
        validation_loss=card.validation["log_loss"],
        validation_accuracy=card.validation["accuracy"],
    )
