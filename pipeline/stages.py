"""The stages that others build on: a feature table, and heads trained on it, each made once and then reused."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from features.devices import resolve_device
from features.extract import Extraction, extract
from features.joined import JoinedTable
from features.sources import open_source
from features.sources.base import Source
from features.spec import AUTO_WEIGHTS, NAMED_WEIGHTS, TrunkOptions, parse_nodes
from features.storage import check_writable, write_json
from features.table import LEDGER
from features.trunks import Trunk, build_trunk
from models.base import Classifier, Head
from models.heads import make_head
from models.hybrid import HybridHead
from models.persist import Card, classifier_folder, load_classifier, read_card, save_classifier
from models.settings import HEAD_SETTINGS
from pipeline.config import FeaturesConfig, XgbConfig
from pipeline.console import progress, remark, warn
from pipeline.costs import spent
from pipeline.depths import best_nodes, run_depths
from pipeline.errors import PipelineError
from pipeline.metrics import score
from pipeline.tune import tune_heads

TIMING = "timing.json"
"""Beside a table: how long its extraction took. Apart from the manifest, which is the same wherever it is made."""


@dataclass(frozen=True, kw_only=True)
class Features:
    """Feature tables, and the `--weights` that their trunk can be built from: a name or an absolute path."""

    table: JoinedTable
    weights: str


def check_testable(table: JoinedTable) -> None:
    """Raise PipelineError for a table without test rows."""
    if not table.rows.get("test"):
        raise PipelineError(f"{table.folder} has no test rows: give the data set test images")


def us_per_image(table: JoinedTable) -> float | None:
    """Microseconds to turn one image into features, as measured when the table was made."""
    try:
        timing = json.loads((table.folder / TIMING).read_text(encoding="utf-8"))
        return float(timing["seconds"]) / int(timing["images"]) * 1e6
    except (OSError, ValueError, KeyError, TypeError, ZeroDivisionError):
        return None


@dataclass(frozen=True, kw_only=True)
class Trained:
    """A classifier that has learnt, its card, the file that prediction reads, and the table that it is tested on."""

    head: Classifier
    card: Card
    path: Path
    table: JoinedTable


def run_features(config: FeaturesConfig) -> Features:
    """Make the feature table that `config` asks for, or find it finished."""
    device = resolve_device(config.device)
    check_writable(config.out)
    source = open_source(config.dataset, data_dir=config.data_dir, train_limit=config.train_limit, seed=config.seed)
    trunk = build_trunk(trunk_options(config), device)
    if not trunk.spec.pretrained:
        warn("random weights: the network has learnt nothing, so this is no transfer learning (see --weights)")
    table = extract_table(source, trunk, config.out, max_bad=config.max_bad, retry_bad=config.retry_bad)
    named = config.weights in (AUTO_WEIGHTS, *NAMED_WEIGHTS)
    return Features(table=table, weights=trunk.spec.weights if named else str(Path(config.weights).resolve()))


def extract_table(source: Source, trunk: Trunk, out: Path, *, max_bad: float, retry_bad: bool = False) -> JoinedTable:
    """Take the images of `source` through `trunk`, or find that done, and say what it took."""
    start = time.perf_counter()
    with progress(f"features of {source.name}", len(source.items)) as advance:
        done = extract(
            source,
            trunk,
            out / "features",
            max_bad=max_bad,
            retry_bad=retry_bad,
            on_images=lambda count: advance(count, ""),
        )
    seconds = time.perf_counter() - start
    table = JoinedTable(done.tables)
    _say_features(table, done, seconds)
    if done.extracted:
        remark(spent(done.seconds, trunk.device))
        timing = {
            "images": done.extracted,
            "seconds": seconds,
            "device": str(trunk.device),
            "stages": dict(done.seconds),
        }
        for each in done.tables:
            write_json(each.folder / TIMING, timing)
    return table


def trunk_options(config: FeaturesConfig) -> TrunkOptions:
    """The trunk that `config` asks for."""
    return TrunkOptions(
        backbone=config.backbone,
        weights=config.weights,
        nodes=parse_nodes(config.node),
        pool=config.pool,
        image_size=config.image_size,
        precision=config.precision,
        compiled=config.compile,
        decoder=config.decoder,
        seed=config.seed,
    )


def run_xgb(config: XgbConfig) -> Trained:
    """Train the trees that `config` asks for, or find them trained."""
    head = unfitted_head("xgb", config)
    features = run_features(config.features)
    if config.select_node:
        features = replace(features, table=best_nodes(features.table, run_depths(features.table, config)))
    tuned, _ = tune_heads([head], features.table, config)
    return train_heads(tuned, features, config.features.out)["xgb"]


def unfitted_head(name: str, config: XgbConfig) -> Head:
    """One of HEADS with the settings of `config`; raises DeviceError before any work is done."""
    if name == "hybrid":
        settings, features = HEAD_SETTINGS[name], config.features
        parts = [unfitted_head(part, config) for part in settings.parts]
        return HybridHead(settings, seed=features.seed, device=resolve_device(features.device), parts=parts)
    if name != "xgb":
        return make_head(name, seed=config.features.seed, device=resolve_device(config.features.device))
    device = "cuda" if config.trees.tree_method == "gpu_hist" else config.features.device
    return make_head(name, settings=config.trees, seed=config.features.seed, device=resolve_device(device))


def train_heads(heads: Sequence[Head], features: Features, out: Path) -> dict[str, Trained]:
    """Train heads on a table, or find them trained with the same settings on the same table, in the order given.

    What hybrid is made of is trained once.
    """
    parts: dict[str, Trained] = {}
    for head in sorted(heads, key=lambda head: isinstance(head, HybridHead)):
        parts[head.name] = _train_head(head, features, out, parts)
    return {head.name: parts[head.name] for head in heads}


def _train_head(head: Head, features: Features, out: Path, parts: Mapping[str, Trained]) -> Trained:
    table = features.table
    folder = out / "models" / table.name / classifier_folder(head, table)
    path = folder / f"{head.name}{head.suffixes[0]}"
    if path.with_suffix(".json").exists():
        learnt, card = load_classifier(path)
        learnt.tuning = head.tuning
        remark(f"{head.name}: reused {path}")
        return Trained(head=learnt, card=card, path=path, table=table)
    if isinstance(head, HybridHead):
        taken = [parts.get(part.name) or _train_head(part, features, out, parts) for part in head.parts]
        head.take([part.head for part in taken if isinstance(part.head, Head)])
    with progress(f"{head.name} learns", head.steps(table)) as advance:
        head.fit(table, lambda step: advance(1, step.note))
    head.learned_ |= head.tuning
    save_classifier(head, table, folder, weights=features.weights, validation=_validation_scores(head, table))
    learned = ", ".join(f"{key.replace('_', ' ')} {_short(value)}" for key, value in head.learned_.items())
    remark(f"{head.name}: learnt in {head.fit_seconds_:.1f} s ({learned}), {path}")
    return Trained(head=head, card=read_card(path.with_suffix(".json")), path=path, table=table)


def _say_features(table: JoinedTable, done: Extraction, seconds: float) -> None:
    counts = ", ".join(f"{table.rows.get(split, 0):,} {split}" for split in ("train", "validation", "test"))
    how = f"{done.extracted:,} images in {seconds:.1f} s, {done.extracted / seconds:.0f} a second"
    if not done.extracted:
        how = "reused"
    elif done.reused:
        how += f", {done.reused:,} found in finished shards"
    remark(f"features: {counts} rows, {how}")
    for each in table.tables:
        trunk = each.spec.trunk
        pooled = "" if trunk.pool == "none" else f", pool {trunk.pool}"
        what = f"{trunk.backbone}.{trunk.node}{pooled}, {trunk.weights} weights"
        remark(f"  {what}: {each.spec.dim:,} columns, {each.folder}")
    if table.errors:
        warn(f"{table.errors:,} images could not be read and are not in the table: see {table.folder / LEDGER}")


def _validation_scores(head: Head, table: JoinedTable) -> dict[str, float]:
    rows = table.read("validation")
    scores = score(head.predict_proba(rows.x), rows.y)
    return {"accuracy": scores.accuracy, "log_loss": scores.log_loss}


def _short(value: Any) -> str:
    if isinstance(value, dict):
        return "/".join(map(_short, value.values()))
    return f"{value:.4g}" if isinstance(value, float) else str(value)
