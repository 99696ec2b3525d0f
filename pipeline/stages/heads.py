"""Heads trained on a feature table, each made once and then reused."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from features.devices import resolve_device
from features.table.joined import JoinedTable
from models.card import Card, classifier_folder, load_classifier, read_card, save_classifier
from models.heads.head import Classifier, Head
from models.heads.hybrid import HybridHead
from models.heads.registry import make_head
from models.heads.settings import HEAD_SETTINGS
from pipeline.config import XgbConfig
from pipeline.console import progress, remark
from pipeline.report.statistics import score
from pipeline.stages.depths import best_nodes, run_depths
from pipeline.stages.search import tune_heads
from pipeline.stages.tables import make_table, open_run


@dataclass(frozen=True, kw_only=True)
class Trained:
    """A classifier that has learnt, its card, the file that prediction reads, and the table that it is tested on."""

    head: Classifier
    card: Card
    path: Path
    table: JoinedTable


def run_xgb(config: XgbConfig) -> Trained:
    """Train the trees that `config` asks for, or find them trained."""
    head = unfitted_head("xgb", config)
    opened = open_run(config.features)
    table = make_table(opened, config.features)
    if config.select_node:
        table = best_nodes(table, run_depths(table, config))
    tuned, _ = tune_heads([head], table, config)
    return train_heads(tuned, table, weights=opened.loaded.weights.reopen, out=config.features.run.out)["xgb"]


def unfitted_head(name: str, config: XgbConfig) -> Head:
    """One of HEADS with the settings of `config`; raises DeviceError before any work is done."""
    if name == "hybrid":
        settings, features = HEAD_SETTINGS[name], config.features
        parts = [unfitted_head(part, config) for part in settings.parts]
        return HybridHead(settings, seed=features.run.seed, device=resolve_device(features.run.device), parts=parts)
    if name != "xgb":
        return make_head(name, seed=config.features.run.seed, device=resolve_device(config.features.run.device))
    device = "cuda" if config.trees.tree_method == "gpu_hist" else config.features.run.device
    return make_head(name, settings=config.trees, seed=config.features.run.seed, device=resolve_device(device))


def train_heads(heads: Sequence[Head], table: JoinedTable, *, weights: str, out: Path) -> dict[str, Trained]:
    """Train heads on a table, or find them trained with the same settings on the same table, in the order given.

    What hybrid is made of is trained once. `weights` are what the table's trunk can be built from again.
    """
    parts: dict[str, Trained] = {}
    for head in sorted(heads, key=lambda head: isinstance(head, HybridHead)):
        parts[head.name] = _train_head(head, table, weights, out, parts)
    return {head.name: parts[head.name] for head in heads}


def _train_head(head: Head, table: JoinedTable, weights: str, out: Path, parts: Mapping[str, Trained]) -> Trained:
    folder = out / "models" / table.name / classifier_folder(head, table)
    path = folder / f"{head.name}{head.suffixes[0]}"
    if path.with_suffix(".json").exists():
        learnt, card = load_classifier(path)
        learnt.tuning = head.tuning
        remark(f"{head.name}: reused {path}")
        return Trained(head=learnt, card=card, path=path, table=table)
    if isinstance(head, HybridHead):
        taken = [parts.get(part.name) or _train_head(part, table, weights, out, parts) for part in head.parts]
        head.take([part.head for part in taken if isinstance(part.head, Head)])
    with progress(f"{head.name} learns", head.steps(table)) as advance:
        head.fit(table, lambda step: advance(1, step.note))
    head.learned_ |= head.tuning
    save_classifier(head, table, folder, weights=weights, validation=_validation_scores(head, table))
    learned = ", ".join(f"{key.replace('_', ' ')} {_short(value)}" for key, value in head.learned_.items())
    remark(f"{head.name}: learnt in {head.fit_seconds_:.1f} s ({learned}), {path}")
    return Trained(head=head, card=read_card(path.with_suffix(".json")), path=path, table=table)


def _validation_scores(head: Head, table: JoinedTable) -> dict[str, float]:
    rows = table.read("validation")
    scores = score(head.predict_proba(rows.x), rows.y)
    return {"accuracy": scores.accuracy, "log_loss": scores.log_loss}


def _short(value: Any) -> str:
    if isinstance(value, dict):
        return "/".join(map(_short, value.values()))
    return f"{value:.4g}" if isinstance(value, float) else str(value)
