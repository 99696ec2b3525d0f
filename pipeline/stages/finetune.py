"""Retrains a network on images, and makes a classifier of it that is compared and used like any other.

OUT/models/<dataset>-<backbone>/finetune-<8 hex>/
  checkpoint-<phase>.pt     what an interrupted run goes on from
  history.csv, history.svg  every epoch of all phases
  finetune.safetensors      the network and its head
  finetune.json             the card, written last
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch.nn.functional import cross_entropy

from features.devices import resolve_device, resolve_precision
from features.sources.registry import open_source
from features.sources.source import Source
from features.storage import check_writable, dataset_folder, digest, locked
from features.table.joined import JoinedTable
from features.trunk.loaded import open_backbone
from features.trunk.recipe import Recipe
from features.trunk.spec import NAMED_WEIGHTS, RANDOM_WEIGHTS, TrunkOptions
from features.trunk.trunk import build_trunk, check_image_size, choose_weights, load_weights, warn_if_emulated
from features.trunk.weights import state_sha256
from models.card import FORMAT as CARD_FORMAT
from models.card import load_classifier, read_card, save_classifier
from models.heads.linear import LinearHead
from models.heads.registry import make_head
from models.networks.classifier import NetworkClassifier
from models.networks.epochs import Epoch
from models.networks.examples import FeatureExamples, ImageExamples
from models.networks.network import Network, add_norms
from models.networks.regimes import Phase, phases_of
from models.networks.settings import PHOTOGRAPHS, WHOLE, FinetuneTraining, Views, is_from_scratch, starts_from_probe
from models.networks.trainer import Trainer
from pipeline.config import FinetuneConfig
from pipeline.console import remark, warn
from pipeline.stages.heads import Trained, train_heads
from pipeline.stages.tables import Features, extract_table
from pipeline.stages.training import (
    accuracy_in_words,
    check_first_size,
    retried_too_late,
    squares_of,
    train,
    views_in_words,
)

FORMAT = 2
"""Raised when the meaning of what is written changes."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is to be trained: images, a network with the weights that it starts from, and how.

    `weights` is their name or absolute path. `settings` are all that decides what is learnt, besides images, seed and
    device.
    """

    config: FinetuneConfig
    device: torch.device
    source: Source
    network: Network
    phases: Sequence[Phase]
    recipe: Recipe
    weights: str
    settings: Mapping[str, Any]

    @property
    def path(self) -> Path:
        """The file that prediction will read."""
        config, what = (
            self.config,
            {"format": (FORMAT, CARD_FORMAT), "source": self.source.digest(), "device": self.device.type},
        )
        folder = dataset_folder(self.source.name, f"-{config.backbone}")
        name = f"{NetworkClassifier.name}-{digest({**what, 'seed': config.seed, **self.settings})[:8]}"
        return config.out / "models" / folder / name / f"{NetworkClassifier.name}{NetworkClassifier.suffixes[0]}"


def plan_finetune(dataset: str, config: FinetuneConfig) -> Plan:
    """Look at everything that a run needs, before time is spent on it."""
    device = resolve_device(config.device)
    check_writable(config.out)
    source = open_source(dataset, data_dir=config.data_dir, train_limit=config.train_limit, seed=config.seed)
    backbone, scratch = open_backbone(config.backbone, config.seed), is_from_scratch(config.settings.regime)
    weights = RANDOM_WEIGHTS if scratch else choose_weights(config.weights, backbone)
    trunk = backbone.cut([backbone.node])
    recipe = load_weights(trunk, backbone, weights).at(config.image_size)
    check_image_size(recipe.image_size, backbone)
    training = config.training.resolved(resolve_precision(config.training.precision, device), from_scratch=scratch)
    warn_if_emulated(training.precision, device)
    sha256 = state_sha256(trunk)
    if scratch:
        add_norms(backbone.network, config.seed)
    network = Network(
        backbone,
        len(source.classes),
        image_size=recipe.image_size,
        seed=config.seed,
        pool="auto",
        hidden=config.settings.hidden,
    )
    check_first_size(network, config.training.first_size, recipe.image_size)
    settings = {
        **asdict(config.settings),
        "backbone": config.backbone,
        "weights_sha256": sha256,
        "pretrained": weights != RANDOM_WEIGHTS,
        "recipe": asdict(recipe),
        "training": asdict(training),
        "views": asdict(config.views.over(WHOLE if source.signs else PHOTOGRAPHS)),
    }
    return Plan(
        config=config,
        device=device,
        source=source,
        network=network,
        phases=phases_of(config.settings.regime, network.children_of_trunk()),
        recipe=recipe,
        weights=weights if weights in NAMED_WEIGHTS else str(Path(weights).resolve()),
        settings=settings,
    )


def run_finetune(plan: Plan) -> Trained:
    """Retrain the network, go on with it, or find it trained; its table is what it says of test images."""
    config, path = plan.config, plan.path
    card = path.with_suffix(".json")
    with locked(path.parent):
        done = card.exists()
        if done:
            learnt, _ = load_classifier(path)
            remark(f"finetune: reused {path}")
            if config.retry_bad:
                retried_too_late(path.parent)
        else:
            learnt, validation = _learn(plan)
        assert isinstance(learnt, NetworkClassifier)
        test = replace(plan.source, items=plan.source.items[plan.source.items["split"] == "test"])
        trunk = learnt.trunk(plan.device)
        # However many are unreadable: whether that is too many was judged before, and the training is not to be lost.
        table = extract_table(test, trunk, config.out, max_bad=1, retry_bad=config.retry_bad)
        if not done:
            save_classifier(learnt, table, path.parent, weights=plan.weights, validation=validation)
    return Trained(head=learnt, card=read_card(card), path=path, table=table)


def _learn(plan: Plan) -> tuple[NetworkClassifier, Mapping[str, float]]:
    """Train phase after phase, each from the best so far; returns accuracy and log-loss on validation as well."""
    config, network, folder = plan.config, plan.network, plan.path.parent
    if plan.weights == RANDOM_WEIGHTS and not is_from_scratch(config.settings.regime):
        warn("random weights: the network has learnt nothing yet, so this is no transfer learning (see --weights)")
    training, views = FinetuneTraining(**plan.settings["training"]), Views(**plan.settings["views"])
    remark(f"  training sees {views_in_words(views)}")
    history = [_fit_probe(plan)] if starts_from_probe(config.settings.regime) else []
    for number, phase in enumerate(plan.phases, 1):
        network.freeze(phase.frozen)
        unchanging = len(phase.frozen) == len(network.children_of_trunk()) and views.whole and not training.first_size
        trainer = Trainer(
            network.head if unchanging else network,
            FeatureExamples(_table_of(plan)) if unchanging else _images_of(plan, views, training.first_size),
            phase.settings(training),
            seed=config.seed,
            device=plan.device,
            before=history,
        )
        what = f"{config.backbone}, {phase.name}, learns"
        train(trainer, folder, folder / f"checkpoint-{number}.pt", what=what)
        history = trainer.history
    best = trainer.best
    learnt = NetworkClassifier(seed=config.seed, device=plan.device, settings=plan.settings)
    learnt.classes_ = plan.source.classes
    learnt.take(network)
    learnt.fit_seconds_ = history[-1].seconds
    learnt.learned_ = {"epochs": len(history), "best_epoch": best.epoch}
    remark(
        f"finetune: learnt in {learnt.fit_seconds_:.1f} s ({len(history)} epochs, best epoch {best.epoch}, "
        f"{accuracy_in_words(best.validation_accuracy)}), {plan.path}"
    )
    return learnt, {"accuracy": best.validation_accuracy, "log_loss": best.validation_loss}


def _images_of(plan: Plan, views: Views, first_size: int | None) -> ImageExamples:
    config = plan.config
    squares = squares_of(plan.source, plan.recipe, config.out, max_bad=config.max_bad, retry_bad=config.retry_bad)
    return ImageExamples(squares, views, first_size)


def _fit_probe(plan: Plan) -> Epoch:
    """Start the network's head as what `linear` learns from the network's features; returns that as an epoch."""
    table = _table_of(plan)
    head = make_head(LinearHead.name, seed=plan.config.seed, device=plan.device)
    trained = train_heads([head], Features(table=table, weights=plan.weights), plan.config.out)[head.name]
    assert isinstance(trained.head, LinearHead)
    probe = trained.head.softmax()
    plan.network.start_from(probe)
    rows, seconds, validation = table.rows["train"], trained.card.fit_seconds, trained.card.validation
    losses = [
        cross_entropy(probe.logits(torch.from_numpy(part.x)), torch.from_numpy(part.y).long(), reduction="sum")
        for part in table.batches("train")
    ]
    remark(f"  training starts from it, {accuracy_in_words(validation['accuracy'])}")
    return Epoch(
        epoch=1,
        images=rows,
        seconds=seconds,
        images_per_second=rows / seconds,
        learning_rate=0.0,
        loss=float(sum(losses)) / rows,
        validation_loss=validation["log_loss"],
        validation_accuracy=validation["accuracy"],
    )


def _table_of(plan: Plan) -> JoinedTable:
    """What the network's trunk gives for images: the table that the features stage makes or has made of them."""
    config = plan.config
    options = TrunkOptions(
        backbone=config.backbone,
        weights=plan.weights,
        image_size=config.image_size,
        precision=plan.settings["training"]["precision"],
        seed=config.seed,
    )
    trunk = build_trunk(options, plan.device)
    return extract_table(plan.source, trunk, config.out, max_bad=config.max_bad, retry_bad=config.retry_bad)
