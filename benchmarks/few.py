"""`python -m benchmarks few`: what heads make of few images, beside scikit-learn's logistic regression."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import product

import numpy as np
import pandas as pd
import torch
from scipy.stats import ttest_rel
from sklearn.linear_model import LogisticRegressionCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Normalizer, StandardScaler

from benchmarks.config import BenchFewConfig
from features.devices import resolve_device
from features.storage import check_writable, write_json
from features.table.folded import LEFT_OUT, FoldedTable
from features.table.joined import JoinedTable
from models.columns.nodes import score_nodes
from models.columns.workspace import Workspace
from models.heads.head import Head, Probabilities
from models.heads.registry import make_head
from pipeline.console import progress, result, result_table
from pipeline.provenance import about
from pipeline.report.statistics import score
from pipeline.stages.opened import open_images
from pipeline.stages.tables import make_table, open_run

SCALERS = {"logistic, unit length": Normalizer, "logistic, standardised": StandardScaler}
"""scikit-learn's, by how its features are normalised; its C is one of ten, by five folds' log-loss."""

CHOSEN = "chosen"
"""The head that had the lowest log-loss on images that it had not seen."""

LUCK = 0.05
"""One is behind another where the draws differ by more than luck does so often (one-sided paired t test)."""


@dataclass(frozen=True, kw_only=True)
class Figures:
    """Accuracy (share) and log-loss (nats) on the test images, for each draw of so many images of each class."""

    dataset: str
    of_class: int
    learner: str
    accuracy: tuple[float, ...]
    log_loss: tuple[float, ...]


def run_bench_few(datasets: list[str], config: BenchFewConfig) -> None:
    """Measure, print a table, write `bench/few.json`; exit with 1 where linear or the chosen head is behind."""
    device, folder = resolve_device(config.run.device), config.run.out / "bench"
    check_writable(folder)
    for dataset in datasets:  # what is missing is said before minutes are spent
        open_images(dataset, config.run)
    found = [each for dataset in datasets for each in _of_set(dataset, config, device)]
    write_json(
        folder / "few.json", asdict(about(asdict(config), device)) | {"figures": [asdict(each) for each in found]}
    )
    rows = [
        (
            each.dataset,
            str(each.of_class),
            each.learner,
            f"{100 * np.mean(each.accuracy):.1f}",
            f"{np.mean(each.log_loss):.3f}",
        )
        for each in found
    ]
    result_table(("set", "of a class", "", "accuracy %", "log-loss"), rows, words=3, title=f"{config.draws} draws")
    behind = list(_behind(found))
    for line in behind:
        result(line)
    if behind:
        sys.exit(1)


def _of_set(dataset: str, config: BenchFewConfig, device: torch.device) -> Iterator[Figures]:
    table = FoldedTable.of(make_table(open_run(config.of(dataset).features), config.run))
    with progress(dataset, len(config.counts()) * config.draws) as advance:
        for count in config.counts():
            tried = []
            for draw in range(config.draws):
                tried.append(_on(_part(table, count, draw), config, device))
                advance(1, f"{count} of a class")
            for learner in tried[0]:
                accuracy, log_loss = zip(*(each[learner] for each in tried), strict=True)
                yield Figures(
                    dataset=table.dataset, of_class=count, learner=learner, accuracy=accuracy, log_loss=log_loss
                )


def _part(table: FoldedTable, count: int, draw: int) -> FoldedTable:
    """Some images of each class to learn from, one in ten of them for validation, and all test images."""
    index = pd.DataFrame({"split": table.splits, "label": table.index()["label"].to_numpy()})
    learnt = index[index["split"] != "test"].sample(frac=1, random_state=draw)
    place = learnt.groupby("label").cumcount()
    splits = np.where(table.splits == "test", "test", LEFT_OUT).astype(object)
    splits[place.index[place < count]] = "train"
    splits[place.index[place < max(1, count // 10)]] = "validation"
    return table.with_splits(splits)


def _on(table: FoldedTable, config: BenchFewConfig, device: torch.device) -> Mapping[str, tuple[float, float]]:
    """Accuracy and log-loss of each learner, on the nodes that these few images choose."""
    if len(table.trunks) > 1:
        table = table.only(score_nodes(table, device, lambda _: None).best.nodes)
    test, learnt = table.read("test"), [table.read(split) for split in ("train", "validation")]
    heads = _heads(table, config, device)
    said: dict[str, Probabilities] = {head.name: head.predict_proba(test.x) for head in heads}
    said[CHOSEN] = said[min(heads, key=lambda head: head.learned_["validation_log_loss"]).name]
    x, y = np.concatenate([rows.x for rows in learnt]), np.concatenate([rows.y for rows in learnt])
    for name, scaler in SCALERS.items():
        regression = LogisticRegressionCV(Cs=10, cv=5, scoring="neg_log_loss", l1_ratios=(0,))
        said[name] = make_pipeline(scaler(), regression).fit(x, y).predict_proba(test.x).astype(np.float32)
    scores = {name: score(probabilities, test.y) for name, probabilities in said.items()}
    return {name: (each.accuracy, each.log_loss) for name, each in scores.items()}


def _heads(table: JoinedTable, config: BenchFewConfig, device: torch.device) -> list[Head]:
    learnt: dict[str, Head] = {}
    with Workspace() as workspace:
        for name in config.heads.split(","):
            head = make_head(name, seed=config.run.seed, device=device).suited(len(table.classes))
            if all(part.name in learnt for part in head.parts):
                head.take([learnt[part.name] for part in head.parts])
            learnt[name] = head.fit(table, workspace, lambda _: None)
    return list(learnt.values())


def _behind(found: Sequence[Figures]) -> Iterator[str]:
    """Where linear or the chosen head is behind one of scikit-learn's, in a line each."""
    cells: dict[tuple[str, int], dict[str, Figures]] = {}
    for each in found:
        cells.setdefault((each.dataset, each.of_class), {})[each.learner] = each
    for (dataset, count), by_name in cells.items():
        for ours, theirs in product(("linear", CHOSEN), SCALERS):
            one, other = by_name[ours], by_name[theirs]
            if ttest_rel(one.log_loss, other.log_loss, alternative="greater").pvalue < LUCK:
                yield f"{dataset}, {count} of a class: {ours} is behind {theirs} in log-loss"
            if ttest_rel(one.accuracy, other.accuracy, alternative="less").pvalue < LUCK:
                yield f"{dataset}, {count} of a class: {ours} is behind {theirs} in accuracy"
