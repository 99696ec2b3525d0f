"""Trains a backbone from scratch on any image source, and writes the trunk that it becomes.

OUT/pretrain/<dataset>-<backbone>-<8 hex>/
  checkpoint.pt       what an interrupted run goes on from
  history.csv, .svg   every epoch, in figures and as a picture
  trunk.safetensors   the trunk at its best so far: float16, in torchvision's names
  card.json           written last: what the trunk is, and its SHA-256
"""

from __future__ import annotations

import json
import shlex
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, get_args

import safetensors.torch
import torch

from features.devices import resolve_device, resolve_precision
from features.sources.registry import open_source
from features.sources.source import LearningSplit, Source
from features.squares import Squares
from features.storage import check_writable, dataset_folder, digest, file_sha256, locked, replacing, write_json
from features.trunk.backbone import Backbone
from features.trunk.loaded import open_backbone
from features.trunk.spec import TrunkOptions
from features.trunk.trunk import build_trunk, check_image_size, warn_if_emulated
from models.errors import TrainingError
from models.networks.examples import ImageExamples
from models.networks.network import Network, add_norms, exported_trunk
from models.networks.teacher import Teacher
from models.networks.trainer import Trainer
from pipeline.config import PretrainConfig
from pipeline.console import remark, warn
from pipeline.errors import ConfigError
from pipeline.provenance import about
from pipeline.stages.training import (
    accuracy_in_words,
    check_first_size,
    retried_too_late,
    squares_of,
    train,
    views_in_words,
)

FORMAT = 1
"""Raised when the meaning of what is written changes."""

TRUNK = "trunk.safetensors"
CARD = "card.json"
CHECKPOINT = "checkpoint.pt"


def run_pretrain(dataset: str, config: PretrainConfig) -> Path:
    """Train a backbone on `dataset`, go on with it, or find it trained; returns the path of its trunk."""
    device = resolve_device(config.device)
    check_writable(config.out)
    source = open_source(
        dataset,
        data_dir=config.data_dir,
        train_limit=config.train_limit,
        seed=config.seed,
        splits=get_args(LearningSplit),
    )
    if "test" not in set(source.items["split"]):
        warn(f"{source.name} has no test images: all are learnt from, so judge the trunk on other images")
    backbone = open_backbone(config.backbone, config.seed)
    check_image_size(config.image_size, backbone)
    precision = resolve_precision(config.training.precision, device)
    warn_if_emulated(precision, device)
    config = replace(config, training=config.training.resolved(precision, from_scratch=True))
    teacher = _teacher(config, device)
    folder = config.out / "pretrain" / _folder_name(source, config, teacher, device)
    if (folder / CARD).exists():
        card = read_card(folder)
        remark(f"pretrain: reused {folder / TRUNK} ({accuracy_in_words(card['validation']['accuracy'])})")
        if config.retry_bad:
            retried_too_late(folder)
        return folder / TRUNK
    add_norms(backbone.network, config.seed)
    network = Network(
        backbone, len(source.classes), image_size=config.image_size, seed=config.seed, taught=teacher is not None
    )
    check_first_size(network, config.training.first_size, config.image_size)
    with locked(folder):
        _learn(network, teacher, source, config, folder)
    return folder / TRUNK


def _learn(network: Network, teacher: Teacher | None, source: Source, config: PretrainConfig, folder: Path) -> None:
    """Train, or go on; the trunk at its best so far is in `folder` all the time."""
    backbone, training = network.backbone, config.training
    recipe = backbone.recipe.at(config.image_size)
    squares = squares_of(source, recipe, config.out, max_bad=config.max_bad, retry_bad=config.retry_bad)
    remark(f"  training sees {views_in_words(config.views)}")
    examples = ImageExamples(squares, config.views, training.first_size)
    device = resolve_device(config.device)
    trainer = Trainer(network, examples, training, seed=config.seed, device=device, teacher=teacher)
    try:
        train(
            trainer,
            folder,
            folder / CHECKPOINT,
            what=f"{backbone.name} learns",
            on_best=lambda: _write_trunk(backbone, folder),
        )
    except KeyboardInterrupt:
        if trainer.history:
            remark(f"pretrain: the best so far, of epoch {trainer.best.epoch}, is in {folder / TRUNK}")
        raise
    _write_trunk(backbone, folder)
    write_json(folder / CARD, _card(trainer, squares, backbone, source, config, folder / TRUNK))
    best = trainer.best
    remark(
        f"pretrain: {len(trainer.history)} epochs in {trainer.history[-1].seconds / 60:.1f} min, best epoch "
        f"{best.epoch} ({accuracy_in_words(best.validation_accuracy)}), {folder / TRUNK}"
    )


def read_card(folder: Path) -> dict[str, Any]:
    """The card of a finished trunk; raises TrainingError where it is damaged, or the trunk is another."""
    try:
        card: dict[str, Any] = json.loads((folder / CARD).read_text(encoding="utf-8"))
        intact = file_sha256(folder / TRUNK) == card["trunk"]["sha256"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise TrainingError(f"{folder} has no trunk that its card names: delete it and train again") from error
    if not intact:
        raise TrainingError(
            f"{folder / TRUNK} is not the file its card names (its SHA-256 differs): delete {folder} and train again"
        )
    return card


def _teacher(config: PretrainConfig, device: torch.device) -> Teacher | None:
    if config.teacher is None:
        return None
    options = TrunkOptions(
        backbone=config.backbone,
        weights=config.teacher,
        image_size=config.image_size,
        seed=config.seed,
    )
    trunk = build_trunk(options, device)
    if not trunk.spec.pretrained:
        raise ConfigError(f"--teacher {config.teacher} has random weights: give imagenet, bundled or a file")
    return Teacher(trunk)


def _folder_name(source: Source, config: PretrainConfig, teacher: Teacher | None, device: torch.device) -> str:
    """`<dataset>-<backbone>-<8 hex>`, another for every image, setting and kind of device."""
    what = {
        "format": FORMAT,
        "source": source.digest(),
        "backbone": config.backbone,
        "image_size": config.image_size,
        "training": asdict(config.training),
        "views": asdict(config.views),
        "teacher": teacher and teacher.spec.weights_sha256,
        "seed": config.seed,
        "device": device.type,
    }
    return dataset_folder(source.name, f"-{config.backbone}-{digest(what)[:8]}")


def _write_trunk(backbone: Backbone, folder: Path) -> None:
    with replacing(folder / TRUNK) as scratch:
        scratch.write_bytes(safetensors.torch.save(exported_trunk(backbone)))


def _card(
    trainer: Trainer, squares: Squares, backbone: Backbone, source: Source, config: PretrainConfig, trunk: Path
) -> dict[str, Any]:
    """What the trunk is and how it came to be."""
    best, teacher = trainer.best, trainer.teacher
    return {
        "format": FORMAT,
        "backbone": backbone.name,
        "node": backbone.node,
        "trunk": {"sha256": file_sha256(trunk), "bytes": trunk.stat().st_size},
        "recipe": asdict(backbone.recipe),
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
        "command": shlex.join(["treehead", *sys.argv[1:]]),
        **about({**asdict(config.training), **asdict(config.views), "seed": config.seed}, trainer.device),
    }
