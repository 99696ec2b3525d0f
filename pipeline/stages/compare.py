"""The comparison: every head on the same table, the test rows touched once, here."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from functools import partial
from itertools import combinations
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import classification_report, confusion_matrix

from features.errors import FeaturesError
from features.storage import digest, write_json
from features.table.joined import JoinedTable, order_of
from features.table.table import Rows
from models.columns.workspace import Workspace
from models.errors import ModelsError
from models.heads.head import Classifier, Probabilities
from pipeline.config import NETWORK, CompareConfig
from pipeline.console import remark, result, warn
from pipeline.report.page import Metrics, summary_table, write_report
from pipeline.report.statistics import paired_difference, score
from pipeline.stages.depths import best_nodes, run_depths
from pipeline.stages.finetune import plan_beside, run_retraining
from pipeline.stages.heads import Trained, make_heads, train_heads
from pipeline.stages.search import find_settings
from pipeline.stages.tables import check_testable, make_table, open_run, us_per_image

FORMAT = 6
"""Raised when the content of `metrics.json` or of the report changes, so that older runs are not shown for newer."""

PREDICT_REPEATS = 3


def run_compare(config: CompareConfig) -> None:
    """Train the heads that are not trained yet, score them on the test rows, and write the report."""
    names = config.head_names()
    learning, features = config.learning, config.learning.features
    heads = make_heads([name for name in names if name != NETWORK], config.settings, features.run)
    opened = open_run(features)
    plan = None
    if NETWORK in names:
        plan = plan_beside(opened, features.trunk, config.network, features.run.seed)
    table = make_table(opened, features)
    check_testable(table)
    with Workspace() as workspace:
        depths = run_depths(table, workspace, learning)
        if learning.select_node:
            table = best_nodes(table, depths)
        candidates = find_settings(heads, table, workspace, learning)
        weights = opened.loaded.weights.reopen
        trained = train_heads(candidates, table, workspace, weights=weights, out=features.run.out)
    searches = {
        name: [asdict(trial) for trial in search.tried]
        for candidate in candidates
        for name, search in candidate.searches.items()
    }
    failed = {}
    if plan:
        try:
            retrained = run_retraining(plan, features.run)
            order_of(_test_keys(table), _test_keys(retrained.table), retrained.table.folder)
            trained[NETWORK] = retrained
        except (FeaturesError, ModelsError) as error:
            failed[NETWORK] = str(error)
            warn(f"{NETWORK} failed, the others go on: {error}")
    scores = asdict(depths) if depths else None
    classifiers = sorted(item.path.parent.name for item in trained.values())
    made_from = {
        "format": FORMAT,
        "classifiers": classifiers,
        "tuning": searches,
        "depths": scores,
        "failed": failed,
    }
    folder = features.run.out / "compare" / f"{table.name}-{digest(made_from)[:8]}"
    metrics = _measured_before(folder, trained)
    if metrics is None:
        metrics = measure(table, trained) | {"tuning": searches, "depths": scores, "failed": failed}
        write_report(folder / "report.html", metrics)
        write_json(folder / "metrics.json", metrics)
    if metrics["test_duplicates"]:
        warn(f"{metrics['test_duplicates']} test images are, byte for byte, training or validation images as well")
    summary_table(metrics)
    for line in metrics["verdict"]:
        result(line)
    result(f"report: {folder / 'report.html'}")


def _measured_before(folder: Path, trained: dict[str, Trained]) -> Metrics | None:
    """The metrics of a finished comparison of these very files, or None where there is none that can be read."""
    try:
        metrics: Metrics = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if not isinstance(metrics, dict) or metrics.get("format") != FORMAT or not (folder / "report.html").exists():
        return None
    if any(metrics["heads"][name]["sha256"] != item.card.sha256 for name, item in trained.items()):
        return None  # one was deleted and trained again
    remark(f"compare: reused {folder / 'metrics.json'}")
    return metrics


def measure(table: JoinedTable, trained: dict[str, Trained]) -> Metrics:
    """Score each head on the test rows, and each pair of heads against one another; most of `metrics.json`."""
    test = table.read("test")
    heads: Metrics = {}
    right: dict[str, NDArray[np.bool_]] = {}
    for name, item in trained.items():
        retrained = item.table is not table  # its features are its own predictions
        x = _in_order_of(test, item.table) if retrained else test.x
        probabilities, predict_us = _timed_predictions(item.head, x)
        own_us = us_per_image(item.table) if retrained else 0.0
        right[name] = probabilities.argmax(axis=1) == test.y
        heads[name] = _head_metrics(item, table, test, probabilities)
        heads[name]["predict_us_per_image"] = None if own_us is None else predict_us + own_us
    order = sorted(heads, key=lambda name: heads[name]["accuracy"], reverse=True)
    differences = [asdict(paired_difference(a, b, right=right)) for a, b in combinations(order, 2)]
    return {
        "format": FORMAT,
        "dataset": table.dataset,
        "classes": list(table.classes),
        "table": table.name,
        "trunks": [trunk.to_json() for trunk in table.trunks],
        "transfer_learning": table.trunks[0].pretrained,
        "rows": table.rows,
        "unreadable": table.errors,
        "test_duplicates": table.test_duplicates(),
        "features_us_per_image": us_per_image(table),
        "heads": {name: heads[name] for name in order},
        "differences": differences,
        "verdict": verdict(heads, order, differences),
    }


def _test_keys(table: JoinedTable) -> NDArray[np.object_]:
    index = table.index()
    return index.loc[index["split"] == "test", "key"].to_numpy()


def _in_order_of(test: Rows, table: JoinedTable) -> NDArray[np.float32]:
    """The test rows of another table of the same images."""
    rows = table.read("test")
    return rows.x[order_of(test.keys, rows.keys, table.folder)]


def verdict(heads: Metrics, order: list[str], differences: list[Metrics]) -> list[str]:
    """What the figures say, in a line or two: who leads, who cannot be told from it, and whether trees win."""
    best = order[0]
    against = {pair["second"]: pair for pair in differences if pair["first"] == best}
    first = [name for name in order if heads[name]["accuracy"] == heads[best]["accuracy"]]
    level = [name for name, pair in against.items() if pair["low"] <= 0 and name not in first]
    behind = [name for name in against if name not in (*first, *level)]
    have = "has" if len(first) == 1 else "have"
    words = [f"{' and '.join(first)} {have} the highest accuracy, {heads[best]['accuracy']:.1%}"]
    if level:
        words.append(f"these images cannot tell it from {' or '.join(level)}")
    words += [f"{name} is behind by {_interval(against[name])}" for name in behind]
    lines = ["; ".join(words) + "."]
    if "xgb" in behind:
        lines.append(f"Trees {'alone ' if 'xgb' in heads[best]['parameters'].get('parts', ()) else ''}do not win here.")
    elif first == ["xgb"] and against and not level:
        lines.append("Trees win here.")
    return lines


def _interval(pair: Metrics) -> str:
    return f"{100 * pair['difference']:.1f} points ({100 * pair['low']:.1f} to {100 * pair['high']:.1f})"


def _timed_predictions(head: Classifier, x: NDArray[np.float32]) -> tuple[Probabilities, float]:
    """Probabilities of the test rows, and the fastest of a few runs in microseconds an image."""
    seconds = []
    for _ in range(PREDICT_REPEATS):
        start = time.perf_counter()
        probabilities = head.predict_proba(x)
        seconds.append(time.perf_counter() - start)
    return probabilities, min(seconds) / len(x) * 1e6


def _head_metrics(item: Trained, table: JoinedTable, test: Rows, probabilities: Probabilities) -> Metrics:
    predicted = probabilities.argmax(axis=1)
    labels = np.arange(len(table.classes))
    report = partial(classification_report, test.y, predicted, labels=labels, target_names=table.classes)
    return {
        **asdict(score(probabilities, test.y)),
        "fit_seconds": item.card.fit_seconds,
        "tune_seconds": item.tune_seconds,
        "bytes": item.card.bytes,
        "sha256": item.card.sha256,
        "file": str(item.path),
        "parameters": dict(item.card.parameters),
        "learned": dict(item.card.learned),
        "confusion_matrix": confusion_matrix(test.y, predicted, labels=labels).tolist(),
        "classification_report": report(output_dict=True, zero_division=0),
        "classification_report_text": report(digits=3, zero_division=0),
    }
