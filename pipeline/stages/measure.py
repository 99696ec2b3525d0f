"""What the contenders do on images that they have not seen: scores, differences, mistakes, and who is to be shipped."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields

import numpy as np
from numpy.typing import NDArray

from features.storage import Json, digest
from features.table.folded import LEFT_OUT, FoldedTable
from features.table.joined import JoinedTable, order_of
from features.table.table import Rows
from models.columns.nodes import NodeScores
from models.heads.head import Classifier, Head, Probabilities
from models.unseen import Unseen
from pipeline.config import CompareConfig
from pipeline.provenance import Provenance
from pipeline.report.mistakes import find_mistakes
from pipeline.report.reliability import reliability
from pipeline.report.result import FORMAT, Comparison, ContenderResult, Tuning
from pipeline.report.simultaneous import compare_all
from pipeline.report.statistics import count_predicted, log_likelihoods, log_loss_of_guess, score
from pipeline.report.verdict import recommend, ruled_out, verdict
from pipeline.stages.folds import splits_in_folds
from pipeline.stages.heads import Trained
from pipeline.stages.opened import Opened
from pipeline.stages.tables import us_per_image

PREDICT_REPEATS = 3


@dataclass(frozen=True, kw_only=True)
class Contest:
    """All that is to be compared as `config` says: the table, who learnt from it by name, and what led there or failed.

    `network_us` is what features of each network cost an image, also of those that were not selected; `opened` has the
    images and the networks, `made` is of this run. Where `folds` is above 0 the contenders are judged by what they said
    `out_of_fold`, and a test split that was `test_given` is looked at last. Of one of `heads`, as they were before they
    learnt, there may be a label curve.
    """

    config: CompareConfig
    table: JoinedTable
    opened: Opened
    made: Provenance
    trained: Mapping[str, Trained]
    tuning: Tuning
    nodes: NodeScores | None
    network_us: Mapping[str, float | None]
    failed: Mapping[str, str]
    folds: int
    out_of_fold: Mapping[str, Unseen]
    test_given: bool
    heads: Mapping[str, Head]

    @property
    def folder_name(self) -> str:
        """`<table>-<8 hex>`, another for all that a report shows but times and paths."""
        what: Json = {
            "format": FORMAT,
            "classifiers": sorted(item.path.parent.name for item in self.trained.values()),
            "tuning": {name: [asdict(trial) for trial in trials] for name, trials in self.tuning.items()},
            "nodes": asdict(self.nodes) if self.nodes else None,
            "failed": self.failed,
            "folds": self.folds,
            "curve": self.config.curve,
            "pictures": self.config.pictures,
            "inspected": self.config.inspect,
        }
        return f"{self.table.name}-{digest(what)[:8]}"


@dataclass(frozen=True, kw_only=True)
class Tested:
    """The images that contenders are judged by, and what each `said` of them, (n, k), by name.

    Images of one of `groups` (n,) have the same bytes or belong together, see `families`; `beside` has as training
    images those that may be like them.
    """

    rows: Rows
    groups: NDArray[np.intp]
    said: Mapping[str, Probabilities]
    beside: JoinedTable


def measure(contest: Contest) -> tuple[Comparison, Unseen]:
    """Score each head on images that it has not seen, and each pair of heads against one another.

    Beside that: what the recommended one said of these images.
    """
    table, test = contest.table, contest.table.read("test")
    on_test = {name: _predictions(item, table, test) for name, item in contest.trained.items()}
    tested = _out_of_fold(contest) if contest.folds else _on_test(contest, test, on_test)
    said, y, guess = tested.said, tested.rows.y, log_loss_of_guess(table)
    found = {
        name: _head_result(item, said[name], tested, on_test[name][1], guess) for name, item in contest.trained.items()
    }
    heads = dict(sorted(found.items(), key=lambda each: each[1].accuracy, reverse=True))
    right = np.array([said[name].argmax(axis=1) == y for name in heads]).T
    likely = np.array([log_likelihoods(said[name], y) for name in heads]).T
    differences, by_log_loss = (
        compare_all(list(heads), scores, tested.groups, folds=contest.folds) for scores in (right, likely)
    )
    features_us, given = us_per_image(table), contest.folds and contest.test_given
    recommended = recommend(heads, ruled_out(differences), ruled_out(by_log_loss), features_us)
    comparison = Comparison(
        dataset=table.dataset,
        classes=table.classes,
        table=table.name,
        trunks=table.trunks,
        transfer_learning=table.is_transfer_learning,
        rows=table.rows,
        unreadable=table.errors,
        test_duplicates=table.test_duplicates() if contest.test_given or not contest.folds else 0,
        features_us_per_image=features_us,
        folds=contest.folds,
        images=len(y),
        largest_class=float(np.bincount(y).max() / len(y)),
        class_counts=_class_counts(table),
        heads=heads,
        differences=differences,
        log_loss_differences=by_log_loss,
        verdict=verdict(heads, differences, by_log_loss, len(y)),
        recommended=recommended,
        given_test=score(on_test[recommended.name][0], test.y, table.alike("test")) if given else None,
        mistakes=find_mistakes(said[recommended.name], tested.rows, tested.beside),
        curves={},
        findings=(),
        tuning=contest.tuning,
        nodes=contest.nodes,
        network_us=contest.network_us,
        failed=contest.failed,
        made=contest.made,
    )
    return comparison, Unseen(keys=tested.rows.keys, labels=y, probabilities=said[recommended.name])


def _on_test(contest: Contest, test: Rows, on_test: Mapping[str, tuple[Probabilities, float | None]]) -> Tested:
    said = {name: probabilities for name, (probabilities, _) in on_test.items()}
    return Tested(rows=test, groups=contest.table.alike("test"), said=said, beside=contest.table)


def _out_of_fold(contest: Contest) -> Tested:
    """All images that folds have tested, in the order of the table."""
    first = next(iter(contest.out_of_fold.values()))
    held = FoldedTable.of(contest.table, splits_in_folds(test_given=contest.test_given))
    view = held.with_splits(np.where(np.isin(held.keys, first.keys), "test", LEFT_OUT))
    rows = view.read("test")
    said = {
        name: unseen.probabilities[order_of(rows.keys, unseen.keys, contest.table.folder)]
        for name, unseen in contest.out_of_fold.items()
    }
    beside = held.with_splits(np.full(len(held.keys), "train"))
    return Tested(rows=rows, groups=view.alike("test"), said=said, beside=beside)


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
    item: Trained, probabilities: Probabilities, tested: Tested, us: float | None, guess: float
) -> ContenderResult:
    card, y = item.card, tested.rows.y
    counted = count_predicted(probabilities.argmax(axis=1), y, len(card.classes))
    return ContenderResult(
        **asdict(score(probabilities, y, tested.groups)),
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
        reliability=reliability(probabilities, y),
    )


def _class_counts(table: JoinedTable) -> dict[str, tuple[int, ...]]:
    """How many images each class has in each split."""
    classes = len(table.classes)
    return {split: tuple(np.bincount(table.labels(split), minlength=classes).tolist()) for split in table.rows}
