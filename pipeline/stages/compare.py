"""The comparison: every head on the same table, the test rows touched once, here."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from features.errors import FeaturesError
from features.locks import locked
from features.table.joined import JoinedTable, order_of
from models.columns.nodes import NodeScores
from models.columns.workspace import Workspace
from models.errors import ModelsError
from models.networks.retrain import Retraining
from models.networks.settings import NETWORK
from pipeline.config import CompareConfig, RunConfig
from pipeline.console import as_options, remark, result, result_prose, warn
from pipeline.errors import ResultError
from pipeline.provenance import about, command_line
from pipeline.report.curve import worth
from pipeline.report.html import thumbnails
from pipeline.report.page import answer, pictured, summary_table, write_report
from pipeline.report.result import Comparison
from pipeline.stages.curve import curve_beside
from pipeline.stages.finetune import plans_beside, run_retraining
from pipeline.stages.folds import run_folds, splits_in_folds
from pipeline.stages.heads import make_heads, train_heads
from pipeline.stages.inspect import inspect
from pipeline.stages.measure import Contest, measure
from pipeline.stages.nodes import best_nodes, run_nodes
from pipeline.stages.search import find_settings
from pipeline.stages.tables import check_testable, make_table, open_run, us_by_network

REPORT = "report.html"


def run_compare(config: CompareConfig) -> None:
    """Train the heads that are not trained yet, score them on the test rows, and write the report."""
    contest = prepare(config)
    folder = config.learning.features.run.out / "compare" / contest.folder_name
    with locked(folder):
        comparison = _found(folder, contest)
        if comparison is None:
            comparison = _compared(contest)
            source, keys = contest.opened.source, pictured(comparison)
            pictures = thumbnails(source, keys, comparison.trunks[0]) if config.pictures else None
            write_report(folder / REPORT, comparison, pictures)
            comparison.write(folder)
    _show(comparison, folder, contest.trained[comparison.recommended.name].path)


def prepare(config: CompareConfig) -> Contest:
    """Look at all that was asked for, then make or find the table, the best depths and settings, and the heads."""
    names = config.head_names()
    learning, features, run = config.learning, config.learning.features, config.learning.features.run
    heads = make_heads([name for name in names if name != NETWORK], config.settings, run)
    opened = open_run(features)
    test_given = "test" not in opened.source.drawn
    folds = config.folds_of(len(opened.source.items), test_given=test_given)
    plans = plans_beside(opened, config.network, run.seed) if NETWORK in names else {}
    table = make_table(opened, run)
    if not folds:
        check_testable(table)
    whole, nodes, network_us = table, run_nodes(table, run), us_by_network(table)
    if learning.selects(table.trunks):
        table = best_nodes(table, nodes)
    with Workspace() as workspace:
        candidates = find_settings(heads, table, workspace, learning)
        weights, excluded = opened.weights_of(table), opened.source.excluded
        trained = train_heads(candidates, table, workspace, run, weights=weights, excluded=excluded)
    out_of_fold = {}
    if folds:
        splits = splits_in_folds(test_given=test_given)
        out_of_fold = run_folds([each.head for each in candidates], whole, learning, folds=folds, splits=splits)
    tuning = {name: search.tried for candidate in candidates for name, search in candidate.searches.items()}
    contest = Contest(
        config=config,
        table=table,
        opened=opened,
        made=about({"command": command_line(), "excluded": excluded}, opened.device),
        trained=trained,
        tuning=tuning,
        nodes=nodes,
        network_us=network_us,
        failed={},
        folds=folds,
        out_of_fold=out_of_fold,
        test_given=test_given,
        heads={candidate.head.name: candidate.head for candidate in candidates},
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


def _compared(contest: Contest) -> Comparison:
    """The comparison, with what more labels would bring and what is wrong with the images where that was asked for."""
    comparison, said = measure(contest)
    config, run = contest.config, contest.config.learning.features.run
    if config.curve:
        heads = {name: (head, comparison[name].fit_seconds) for name, head in contest.heads.items()}
        curves = curve_beside(heads, comparison.recommended.name, contest.table, run.out)
        comparison = replace(comparison, curves=curves)
    if config.inspect:
        found = inspect(contest.opened, contest.table, run, said, in_folds=contest.folds > 0)
        comparison = replace(comparison, findings=found.findings)
    return comparison


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


def _test_keys(table: JoinedTable) -> NDArray[np.object_]:
    index = table.index()
    return index.loc[index["split"] == "test", "key"].to_numpy()


def _show(comparison: Comparison, folder: Path, shipped: Path) -> None:
    if comparison.test_duplicates and not comparison.findings:
        warn(f"{comparison.test_duplicates} test images are, byte for byte, training or validation images as well")
    summary_table(comparison)
    for line in (*answer(comparison), *comparison.recommended.reasons, *comparison.verdict):
        result_prose(line)
    for name, curve in comparison.curves.items():
        result_prose(f"{name}: {worth(curve, len(comparison.classes))}")
    if comparison.findings:
        found = ", ".join(f"{each.code} {each.images:,}".removesuffix(" 0") for each in comparison.findings)
        result_prose(f"What may be wrong with the images is in the report: {found}.")
    result(f"classifier: {shipped}")
    result(f"report: {folder / REPORT}")
    result(f"next: {shlex.join(['treehead', 'predict', str(shipped), 'photo.jpg'])}")
