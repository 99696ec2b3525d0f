"""Trains a backbone from scratch on any image source, and writes the trunk that it becomes.

OUT/pretrain/<dataset>-<backbone>-<8 hex>/
  checkpoint.pt       what an interrupted run goes on from
  history.csv, .svg   every epoch, in figures and as a picture
  trunk.safetensors   the trunk at its best so far: float16, in torchvision's names
  card.json           written last: what the trunk is, and its SHA-256
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import get_args

import safetensors.torch
import torch

from features.devices import resolve_device, resolve_precision
from features.errors import TrunkError
from features.locks import locked
from features.sources.source import LearningSplit, Source
from features.squares import Squares
from features.storage import FileRecord, Json, dataset_folder, digest, replacing, write_json
from features.trunk.backbone import Backbone
from features.trunk.bundled import TrunkCard
from features.trunk.loaded import open_backbone
from features.trunk.spec import TrunkOptions
from features.trunk.trunk import Trunk, build_trunk
from models.errors import TrainingError
from models.networks.examples import ImageExamples
from models.networks.network import Network, add_norms, exported_trunk
from models.networks.trainer import Trainer
from pipeline.config import PretrainConfig
from pipeline.console import accuracy_in_words, detail, remark, warn
from pipeline.errors import ConfigError
from pipeline.provenance import about, command_line
from pipeline.stages.opened import open_images
from pipeline.stages.tables import say_images
from pipeline.stages.training import decode_images, retried_too_late, train, views_in_words

FORMAT = 1
"""Raised when the meaning of what is written changes."""

TRUNK = "trunk.safetensors"
CARD = "card.json"
CHECKPOINT = "checkpoint.pt"


def run_pretrain(dataset: str, config: PretrainConfig) -> Path:
    """Train a backbone on `dataset`, go on with it, or find it trained; returns the path of its trunk."""
    device = resolve_device(config.run.device)
    source = open_images(dataset, config.run, get_args(LearningSplit))
    if "test" not in set(source.items["split"]):
        warn(f"{source.name} has no test images: all are learnt from, so judge the trunk on other images")
    backbone = open_backbone(config.network.backbone, config.run.seed)
    backbone.check_image_size(config.network.image_size)
    precision = resolve_precision(config.training.precision, device)
    config = replace(config, training=config.training.resolved(precision, from_scratch=True))
    plan = _Pretraining(source, backbone, _teacher(config, device), config, device)
    network = None if plan.is_done else _network(plan)
    say_images(source)
    with locked(plan.folder):
        if network is None or plan.is_done:  # by a run that this one waited for
            return _reuse(plan)
        _learn(plan, network)
    return plan.trunk


@dataclass(frozen=True)
class _Pretraining:
    """What is to be trained, on what, by which teacher if any, how and where."""

    source: Source
    backbone: Backbone
    teacher: Trunk | None
    config: PretrainConfig
    device: torch.device

    @cached_property
    def folder(self) -> Path:
        """`<dataset>-<backbone>-<8 hex>`, another for every image, setting and kind of device."""
        config = self.config
        what: Json = {
            "format": FORMAT,
            "source": self.source.digest(),
            "backbone": config.network.backbone,
            "image_size": config.network.image_size,
            "training": asdict(config.training),
            "views": config.views.to_json(),
            "teacher": self.teacher.spec.weights_sha256 if self.teacher else None,
            "seed": config.run.seed,
            "device": self.device.type,
        }
        name = dataset_folder(self.source.name, f"-{config.network.backbone}-{digest(what)[:8]}")
        return config.run.out / "pretrain" / name

    @property
    def trunk(self) -> Path:
        return self.folder / TRUNK

    @property
    def is_done(self) -> bool:
        return (self.folder / CARD).exists()


def _reuse(plan: _Pretraining) -> Path:
    """The trunk that is there; raises TrainingError where its card is damaged, or the trunk is another."""
    try:
        card = TrunkCard.read(plan.folder / CARD)
        card.check(plan.trunk)
    except TrunkError as error:
        raise TrainingError(f"{error}: delete {plan.folder} and train again") from error
    remark(f"pretrain: reused, {accuracy_in_words(card.accuracy)}")
    if plan.config.run.retry_bad:
        retried_too_late(plan.folder)
    return plan.trunk


def _network(plan: _Pretraining) -> Network:
    """The network yet to be trained; raises SettingsError for a first size that it does not take."""
    config, backbone, taught = plan.config, plan.backbone, plan.teacher is not None
    size, seed = config.network.image_size, config.run.seed
    add_norms(backbone.network, seed)
    network = Network(backbone, len(plan.source.classes), image_size=size, seed=seed, taught=taught)
    network.check_first_size(config.training.first_size, size)
    return network


def _learn(plan: _Pretraining, network: Network) -> None:
    """Train, or go on; the trunk at its best so far is in the folder all the time."""
    config, backbone, training = plan.config, plan.backbone, plan.config.training
    squares = decode_images(plan.source, backbone.recipe.asked(config.network), config.run)
    detail(f"training sees {views_in_words(config.views)}")
    examples = ImageExamples(squares, config.views, training.first_size)
    trainer = Trainer(network.to(plan.device), examples, training, seed=config.run.seed, teacher=plan.teacher)
    try:
        what = f"{backbone.name} learns"
        train(trainer, CHECKPOINT, what, folder=plan.folder, on_best=lambda: _write_trunk(plan))
    except KeyboardInterrupt:
        if trainer.history:
            remark(f"pretrain: the best so far, of epoch {trainer.best.epoch}, is in {plan.trunk}")
        raise
    _write_trunk(plan)
    write_json(plan.folder / CARD, _card(plan, trainer, squares))
    best = trainer.best
    minutes = trainer.history[-1].seconds / 60
    remark(f"pretrain: learnt in {minutes:.1f} min, {accuracy_in_words(best.validation_accuracy)}")
    detail(f"{len(trainer.history)} epochs, the best is {best.epoch}")


def _teacher(config: PretrainConfig, device: torch.device) -> Trunk | None:
    if config.teacher is None:
        return None
    network = config.network
    options = TrunkOptions(backbone=network.backbone, weights=config.teacher, image_size=network.image_size)
    trunk = build_trunk(options, device, seed=config.run.seed)
    if not trunk.spec.pretrained:
        raise ConfigError(f"--teacher {config.teacher} has random weights: give imagenet, bundled or a file")
    return trunk


def _write_trunk(plan: _Pretraining) -> None:
    with replacing(plan.trunk) as scratch:
        scratch.write_bytes(safetensors.torch.save(exported_trunk(plan.backbone)))


def _card(plan: _Pretraining, trainer: Trainer, squares: Squares) -> dict[str, Json]:
    """What the trunk is and how it came to be."""
    best, teacher, source, config = trainer.best, plan.teacher, plan.source, plan.config
    return {
        "format": FORMAT,
        "backbone": plan.backbone.name,
        "node": plan.backbone.node,
        "trunk": asdict(FileRecord.of(plan.trunk)),
        "recipe": asdict(plan.backbone.recipe),
        "trained_at_px": squares.recipe.image_size,
        "teacher": teacher and {"weights": teacher.spec.weights, "sha256": teacher.spec.weights_sha256},
        "data": {
            "name": source.name,
            "classes": len(source.classes),
            "train": len(squares.places("train")),
            "validation": len(squares.places("validation")),
            "unreadable": len(squares.ledger),
            "source_sha256": source.digest(),
        },
        "validation": {"accuracy": best.validation_accuracy, "log_loss": best.validation_loss},
        "epochs": len(trainer.history),
        "best_epoch": best.epoch,
        "minutes": trainer.history[-1].seconds / 60,
        "precision": trainer.precision,
        "command": command_line(),
        **asdict(about({**asdict(config.training), **asdict(config.views), "seed": config.run.seed}, trainer.device)),
    }
