"""Retrains a network on images, and makes a classifier of it that is tested and used like any other.

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

from features.backbones import Backbone, Recipe, open_backbone
from features.devices import resolve_device, resolve_precision
from features.sources import open_source
from features.sources.base import Source
from features.spec import TrunkSpec
from features.storage import check_writable, dataset_folder, digest, locked
from features.trunks import check_image_size, choose_weights, load_weights, warn_if_emulated
from features.weights import state_sha256
from models.finetuned import LOGITS, RETRAINED, FinetunedNetwork
from models.images import Squares
from models.network import Network, add_norms
from models.persist import load_classifier, read_card, save_classifier
from models.regimes import Phase, is_from_scratch, phases_of
from models.settings import WHOLE, FinetuneViews, Views
from models.training import Epoch, Trainer
from pipeline.config import FinetuneConfig
from pipeline.console import remark, warn
from pipeline.stages import Trained, extract_table
from pipeline.training import accuracy_in_words, squares_of, train

FORMAT = 1
"""Raised when the meaning of what is written changes."""

SIGNS = {"digits", "mnist", "qmnist", "kmnist", "emnist", "usps", "svhn"}
"""Sets of digits and letters, which are others in the mirror."""


@dataclass(frozen=True, kw_only=True)
class Start:
    """What a network is retrained from: a backbone that has its weights, how they want images, and their name."""

    backbone: Backbone
    recipe: Recipe
    weights: str


def run_finetune(dataset: str, config: FinetuneConfig) -> Trained:
    """Retrain a network on `dataset`, go on with it, or find it trained; its table is what it says of test images."""
    device = resolve_device(config.device)
    check_writable(config.out)
    source = open_source(dataset, data_dir=config.data_dir, train_limit=config.train_limit, seed=config.seed)
    start = _start(config)
    warn_if_emulated(resolve_precision(config.training.precision, device), device)
    settings = _settings(start, source, config)
    folder = config.out / "models" / dataset_folder(source.name, f"-{config.backbone}")
    what = {"format": FORMAT, "source": source.digest(), "seed": config.seed, "device": device.type, **settings}
    folder /= f"{FinetunedNetwork.name}-{digest(what)[:8]}"
    path = folder / f"{FinetunedNetwork.name}{FinetunedNetwork.suffixes[0]}"
    card = path.with_suffix(".json")
    if card.exists():
        learnt, _ = load_classifier(path)
        assert isinstance(learnt, FinetunedNetwork)
        remark(f"finetune: reused {path}")
    else:
        learnt = FinetunedNetwork(seed=config.seed, device=device, settings=settings)
        learnt.classes_ = source.classes
        network = _network(start, len(source.classes), config)
        phases = phases_of(config.settings.regime, network.children_of_trunk())
        with locked(folder):
            squares = squares_of(source, start.recipe, config.out, config.max_bad)
            validation = _train(learnt, network, phases, squares, config, folder)
    spec = _spec(start, config, device)
    table = extract_table(_test_images(source), learnt.trunk(spec, device), config.out, max_bad=config.max_bad)
    if not card.exists():
        save_classifier(learnt, table, folder, weights=start.weights, validation=validation)
    return Trained(head=learnt, card=read_card(card), path=path, table=table)


def _start(config: FinetuneConfig) -> Start:
    backbone = open_backbone(config.backbone, config.seed)
    weights = "random" if is_from_scratch(config.settings.regime) else choose_weights(config.weights, backbone)
    recipe = load_weights(backbone.cut([backbone.node]), backbone, weights).at(config.image_size)
    check_image_size(recipe.image_size, backbone)
    if weights == "random" and not is_from_scratch(config.settings.regime):
        warn("random weights: the network has learnt nothing yet, so this is no transfer learning (see --weights)")
    return Start(backbone=backbone, recipe=recipe, weights=weights)


def _settings(start: Start, source: Source, config: FinetuneConfig) -> dict[str, Any]:
    """All that decides what is learnt, besides images, seed and device."""
    views = config.views or (WHOLE if source.name in SIGNS else FinetuneViews())
    return {
        **asdict(config.settings),
        "backbone": config.backbone,
        "weights_sha256": state_sha256(start.backbone.cut([start.backbone.node])),
        "recipe": asdict(start.recipe),
        "training": asdict(config.training),
        "views": asdict(views),
    }


def _network(start: Start, classes: int, config: FinetuneConfig) -> Network:
    if is_from_scratch(config.settings.regime):
        add_norms(start.backbone.network, config.seed)
    return Network(
        start.backbone,
        classes,
        image_size=start.recipe.image_size,
        seed=config.seed,
        pool="auto",
        hidden=config.settings.hidden,
    )


def _train(
    learnt: FinetunedNetwork,
    network: Network,
    phases: Sequence[Phase],
    squares: Squares,
    config: FinetuneConfig,
    folder: Path,
) -> Mapping[str, float]:
    """Train phase after phase, each from the best of the one before; returns accuracy and log-loss on validation."""
    views = Views(**learnt.settings["views"])
    history: list[Epoch] = []
    for number, phase in enumerate(phases, 1):
        groups = phase.prepare(network, config.training.weight_decay)
        training = phase.settings(config.training)
        trainer = Trainer(network, groups, squares, training, views, seed=config.seed, device=learnt.device)
        what = f"{config.backbone}, {phase.name}, learns"
        train(trainer, folder, folder / f"checkpoint-{number}.pt", what=what, before=history)
        history += trainer.history
        learnt.fit_seconds_ += trainer.history[-1].seconds
    best = trainer.best
    learnt.take(network)
    learnt.learned_ = {"epochs": len(history), "best_epoch": len(history) - len(trainer.history) + best.epoch}
    remark(
        f"finetune: learnt in {learnt.fit_seconds_:.1f} s ({len(history)} epochs, "
        f"{accuracy_in_words(best.validation_accuracy)}), {folder}"
    )
    return {"accuracy": best.validation_accuracy, "log_loss": best.validation_loss}


def _spec(start: Start, config: FinetuneConfig, device: torch.device) -> TrunkSpec:
    """The network as a trunk that ends in its logits, but for its weights, which are still to be learnt."""
    return TrunkSpec(
        backbone=config.backbone,
        weights=RETRAINED,
        weights_sha256="",
        seed=None,
        node=LOGITS,
        pool="none",
        **asdict(start.recipe),
        precision=resolve_precision(config.training.precision, device),
    )


def _test_images(source: Source) -> Source:
    return replace(source, items=source.items[source.items["split"] == "test"])
