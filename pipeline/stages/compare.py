"""The comparison: every head on the same table, the test rows touched once, here."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from features.errors import FeaturesError
from features.locks import locked
from features.storage import Json, digest
from features.table.joined import JoinedTable, order_of
from features.table.table import Rows
from models.columns.nodes import NodeScores
from models.columns.workspace import Workspace
from models.errors import ModelsError
from models.heads.head import Classifier, Head, Probabilities
from models.networks.retrain import Retraining
from models.networks.settings import NETWORK
from pipeline.config import CompareConfig, RunConfig
from pipeline.console import as_options, remark, result, warn
from pipeline.errors import ResultError
from pipeline.report.curve import worth
from pipeline.report.page import summary_table, write_report
from pipeline.report.result import FORMAT, Comparison, ContenderResult, Tuning
from pipeline.report.shipping import Recommendation
from pipeline.report.simultaneous import compare_all
from pipeline.report.statistics import count_predicted, log_likelihoods, log_loss_of_guess, score
from pipeline.report.verdict import verdict
from pipeline.stages.curve import curve_beside
from pipeline.stages.finetune import plans_beside, run_retraining
from pipeline.stages.heads import Trained, make_heads, train_heads
from pipeline.stages.nodes import best_nodes, run_nodes
from pipeline.stages.search import find_settings
from pipeline.stages.tables import check_testable, make_table, open_run, us_by_network, us_per_image

PREDICT_REPEATS = 3

REPORT = "report.html"


@dataclass(frozen=True, kw_only=True)
class Contest:
    """All that is to be compared: the table, who learnt from it by name, and what led there or failed.

    `network_us` is what features of each network cost an image, also of those that were not selected. `heads` are those
    on the table as they were before they learnt, of which there may be a label `curve`.
    """

    table: JoinedTable
    trained: Mapping[str, Trained]
    tuning: Tuning
    nodes: NodeScores | None
    network_us: Mapping[str, float | None]
    failed: Mapping[str, str]
    heads: Mapping[str, Head]
    curve: bool

    @property
    def folder_name(self) -> str:
        """`<table>-<8 hex>`, another for all that a report shows but times and paths."""
        what: Json = {
            "format": FORMAT,
            "classifiers": sorted(item.path.parent.name for item in self.trained.values()),
            "tuning": {name: [asdict(trial) for trial in trials] for name, trials in self.tuning.items()},
            "nodes": asdict(self.nodes) if self.nodes else None,
            "failed": self.failed,
            "curve": self.curve,
        }
        return f"{self.table.name}-{digest(what)[:8]}"


def run_compare(config: CompareConfig) -> None:
    """Train the heads that are not trained yet, score them on the test rows, and write the report."""
    contest = prepare(config)
    folder = config.learning.features.run.out / "compare" / contest.folder_name
    with locked(folder):
        comparison = _found(folder, contest)
        if comparison is None:
            comparison = _with_curve(measure(contest), contest, config.learning.features.run)
            write_report(folder / REPORT, comparison)
            comparison.write(folder)
    _show(comparison, folder, contest.trained[comparison.best].path)


def prepare(config: CompareConfig) -> Contest:
    """Look at all that was asked for, then make or find the table, the best depths and settings, and the heads."""
    names = config.head_names()
    learning, features, run = config.learning, config.learning.features, config.learning.features.run
    heads = make_heads([name for name in names if name != NETWORK], config.settings, run)
    opened = open_run(features)
    plans = plans_beside(opened, config.network, run.seed) if NETWORK in names else {}
    table = make_table(opened, run)
    check_testable(table)
    nodes, network_us = run_nodes(table, run), us_by_network(table)
    if learning.selects(table.trunks):
        table = best_nodes(table, nodes)
    with Workspace() as workspace:
        candidates = find_settings(heads, table, workspace, learning)
        weights = opened.weights_of(table)
        trained = train_heads(candidates, table, workspace, weights=weights, out=run.out)
    tuning = {name: search.tried for candidate in candidates for name, search in candidate.searches.items()}
    contest = Contest(
        table=table,
        trained=trained,
        tuning=tuning,
        nodes=nodes,
        network_us=network_us,
        failed={},
        heads={candidate.head.name: candidate.head for candidate in candidates},
        curve=config.curve,
    )
    return _with_retrained(contest, plans[_best_network(table, nodes)], run) if plans else contest


def _best_network(table: JoinedTable, nodes: NodeScores | None) -> str:
    """The network that is retrained: the one of the node that does best alone."""
    if nodes is None:
        return table.trunks[0].backbone
    best = nodes.best.nodes[0]
    return next(trunk.backbone for trunk in table.trunks if trunk.title == best)


def _with_retrained(contest: Contest, plan: Retraining, run: RunConfig) -> Contest:
    """The contest with the network retrained as `plan` says, or with the reason why that failed."""
    try:
        retrained = run_retraining(plan, run)
        order_of(_test_keys(contest.table), _test_keys(retrained.table), retrained.table.folder)
    except (FeaturesError, ModelsError) as error:
        reason = as_options(str(error))
        warn(f"{NETWORK} failed, the others go on: {reason}")
        return replace(contest, failed={NETWORK: reason})
    return replace(contest, trained={**contest.trained, NETWORK: retrained})


def _with_curve(comparison: Comparison, contest: Contest, run: RunConfig) -> Comparison:
    """The comparison with what more labels would bring, if that was asked for."""
    if not contest.curve:
        return comparison
    heads = {name: (head, comparison[name].fit_seconds) for name, head in contest.heads.items()}
    curves = curve_beside(heads, comparison.recommended.name, contest.table, run.out)
    return replace(comparison, curves=curves)


def _found(folder: Path, contest: Contest) -> Comparison | None:
    """A finished comparison of these very files, or None where there is none that can be read."""
    try:
        comparison = Comparison.open(folder)
    except ResultError:
        return None
    if not (folder / REPORT).exists():
        return None
    kept = {name: head.sha256 for name, head in comparison.heads.items()}
    if kept != {name: item.card.sha256 for name, item in contest.trained.items()}:
        return None  # one was deleted and trained again
    remark("compare: reused")
    return comparison


def measure(contest: Contest) -> Comparison:
    """Score each head on the test rows, and each pair of heads against one another."""
    table, test = contest.table, contest.table.read("test")
    guess = log_loss_of_guess(table.labels("train"), table.labels("validation"))
    predicted: dict[str, Probabilities] = {}
    heads: dict[str, ContenderResult] = {}
    for name, item in contest.trained.items():
        probabilities, us = _predictions(item, table, test)
        predicted[name] = probabilities
        heads[name] = _head_result(item, probabilities, test.y, us, guess)
    heads = dict(sorted(heads.items(), key=lambda each: each[1].accuracy, reverse=True))
    names, groups = list(heads), table.alike("test")
    right = np.array([predicted[name].argmax(axis=1) == test.y for name in names]).T
    likely = np.array([log_likelihoods(predicted[name], test.y) for name in names]).T
    differences, by_log_loss = compare_all(names, right, groups), compare_all(names, likely, groups)
    return Comparison(
        dataset=table.dataset,
        classes=table.classes,
        table=table.name,
        trunks=table.trunks,
        transfer_learning=table.is_transfer_learning,
        rows=table.rows,
        unreadable=table.errors,
        test_duplicates=table.test_duplicates(),
        features_us_per_image=us_per_image(table),
        folds=0,
        images=len(test),
        largest_class=float(np.bincount(test.y).max() / len(test)),
        class_counts=_class_counts(table),
        heads=heads,
        differences=differences,
        log_loss_differences=by_log_loss,
        verdict=verdict(heads, differences, by_log_loss, len(test)),
        recommended=Recommendation(name=names[0], reasons=()),
        mistakes=(),
        curves={},
        tuning=contest.tuning,
        nodes=contest.nodes,
        network_us=contest.network_us,
        failed=contest.failed,
    )


def _predictions(item: Trained, table: JoinedTable, test: Rows) -> tuple[Probabilities, float | None]:
    """Probabilities of the test rows of `table`, and the microseconds an image that they take, None if not known."""
    if item.table is table:
        return _timed_predictions(item.head, test.x)
    rows = item.table.read("test")  # a retrained network's own, in another order; its features are its predictions
    probabilities, us = _timed_predictions(item.head, rows.x[order_of(test.keys, rows.keys, item.table.folder)])
    own_us = us_per_image(item.table)
    return probabilities, None if own_us is None else us + own_us


def _timed_predictions(head: Classifier, x: NDArray[np.float32]) -> tuple[Probabilities, float]:
    """Probabilities of the test rows, and the fastest of a few runs in microseconds an image."""
    seconds = []
    for _ in range(PREDICT_REPEATS):
        start = time.perf_counter()
        probabilities = head.predict_proba(x)
        seconds.append(time.perf_counter() - start)
    return probabilities, min(seconds) / len(x) * 1e6


def _head_result(
    item: Trained, probabilities: Probabilities, y: NDArray[np.int32], us: float | None, guess: float
) -> ContenderResult:
    card = item.card
    counted = count_predicted(probabilities.argmax(axis=1), y, len(card.classes))
    return ContenderResult(
        **asdict(score(probabilities, y)),
        **{each.name: getattr(counted, each.name) for each in fields(counted)},
        fit_seconds=card.fit_seconds,
        tune_seconds=item.tune_seconds,
        bytes=card.bytes,
        sha256=card.sha256,
        file=str(item.path),
        parameters=card.parameters,
        learned=card.learned,
        predict_us_per_image=us,
        worse_than_guess=card.validation["log_loss"] >= guess,
        reliability=None,
    )


def _class_counts(table: JoinedTable) -> dict[str, tuple[int, ...]]:
    """How many images each class has in each split."""
    classes = len(table.classes)
    return {split: tuple(np.bincount(table.labels(split), minlength=classes).tolist()) for split in table.rows}


def _test_keys(table: JoinedTable) -> NDArray[np.object_]:
    index = table.index()
    return index.loc[index["split"] == "test", "key"].to_numpy()


def _show(comparison: Comparison, folder: Path, best: Path) -> None:
    if comparison.test_duplicates:
        warn(f"{comparison.test_duplicates} test images are, byte for byte, training or validation images as well")
    summary_table(comparison)
    for line in comparison.verdict:
        result(line)
    for name, curve in comparison.curves.items():
        result(f"{name}: {worth(curve, len(comparison.classes))}")
    result(f"classifier: {best}")
    result(f"report: {folder / REPORT}")
