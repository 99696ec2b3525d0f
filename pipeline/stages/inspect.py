"""What is wrong with a set of images, from its feature table and what is said of each image by who had not seen it."""

from __future__ import annotations

import csv
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from features.sources.source import SPLITS
from features.storage import replacing, write_json
from features.table.joined import JoinedTable
from features.table.table import families
from models.errors import DataError
from models.heads.head import Head
from models.heads.registry import HeadSettings
from models.unseen import Unseen
from pipeline.config import USUAL_FOLDS, InspectConfig, LearningConfig, RunConfig
from pipeline.console import result, result_prose, result_table, warn
from pipeline.inspection.classes import check_classes, check_groups
from pipeline.inspection.doubles import check_doubles
from pipeline.inspection.finding import LISTING, Facts, Finding, Found, effect, listed, pictured, told
from pipeline.inspection.labels import check_labels
from pipeline.inspection.pixels import check_odd, check_pixels
from pipeline.inspection.shortcuts import check_shortcuts
from pipeline.provenance import about, command_line
from pipeline.report.html import thumbnails, write_page
from pipeline.stages.folds import run_folds
from pipeline.stages.heads import make_heads
from pipeline.stages.likeness import Likeness, run_likeness
from pipeline.stages.nodes import best_nodes, run_nodes
from pipeline.stages.opened import Opened
from pipeline.stages.tables import make_table, open_run

JUDGE = "linear"
"""The head that says what each image looks like, having learnt from the others."""

REPORT = "inspect.html"

COLUMNS = ("finding", "images", "accuracy %", "without %")


@dataclass(frozen=True, kw_only=True)
class Inspection:
    """What was found, how it is told, and the folder in which all of it lies."""

    findings: tuple[Finding, ...]
    folder: Path


def run_inspect(config: InspectConfig) -> None:
    """Print what is wrong and write a report; exits with 1 where there is a finding of `--fail-on`."""
    learning, run = config.learning, config.learning.features.run
    (judge,) = make_heads([JUDGE], HeadSettings(), run)
    opened = open_run(learning.features, unlabelled=True)
    table = make_table(opened, run)
    said = _said(judge, table, learning)
    if len(said) and learning.selects(table.trunks):
        table = best_nodes(table, run_nodes(table, run))
    test = table.index().loc[lambda index: index["split"] == "test", "key"]
    found = inspect(opened, table, run, said, in_folds=False, judged=test.to_numpy())
    _write_report(found, opened, table, pictures=config.pictures)
    _show(found)
    failing = [each.code for each in found.findings if each.code in config.codes()]
    if failing:
        sys.exit(1)


def _said(judge: Head, table: JoinedTable, learning: LearningConfig) -> Unseen:
    """What is said of each image by a head that had not seen it; of images that none can learn from, nothing."""
    why = "there are none"
    if table.classes:
        splits = [split for split in SPLITS if split in table.rows]
        try:
            return run_folds([judge], table, learning, folds=USUAL_FOLDS, splits=splits)[judge.name]
        except DataError as error:
            why = str(error)
    warn(f"labels are not looked at: {why}")
    nothing = np.empty((0, len(table.classes)), np.float32)
    return Unseen(keys=np.empty(0, object), labels=np.empty(0, np.int32), probabilities=nothing)


def inspect(
    opened: Opened,
    table: JoinedTable,
    run: RunConfig,
    said: Unseen,
    *,
    in_folds: bool,
    judged: NDArray[np.object_] | None = None,
) -> Inspection:
    """All findings about a table, and lists of the images that they are of beside the near-doubles.

    `said` is what was said of images by who had not seen them, and, where they were `in_folds`, may have learnt from
    all others; accuracy is of those whose keys are `judged`, else of all of them.
    """
    likeness = run_likeness(opened, table, run)
    facts = _facts(table, likeness, said, said.keys if judged is None else judged, in_folds)
    found = _found(facts, run.seed)
    every = listed(found, facts)
    with replacing(likeness.folder / f"{LISTING}.parquet") as scratch:
        every.to_parquet(scratch, index=False)
    with replacing(likeness.folder / f"{LISTING}.csv") as scratch:
        every.to_csv(scratch, index=False, quoting=csv.QUOTE_NONNUMERIC)  # some names have ends of lines
    findings = tuple(told(each, facts) for each in found)
    write_json(likeness.folder / f"{LISTING}.json", [asdict(each) for each in findings])
    return Inspection(findings=findings, folder=likeness.folder)


def _facts(table: JoinedTable, likeness: Likeness, said: Unseen, judged: NDArray[np.object_], in_folds: bool) -> Facts:
    keys = pd.Index(likeness.images["key"])
    probabilities = np.full((len(keys), len(table.classes)), np.nan, np.float32)
    probabilities[keys.get_indexer(pd.Index(said.keys))] = said.probabilities
    return Facts(
        classes=table.classes,
        images=likeness.images,
        families=families(likeness.images),
        doubles=likeness.doubles,
        said=probabilities,
        judged=np.asarray(keys.isin(judged)),
        in_folds=in_folds,
    )


def _found(facts: Facts, seed: int) -> list[Found]:
    """What matters most first; of images without labels, what needs none."""
    of_labels = [*check_labels(facts), *check_shortcuts(facts, seed), *check_classes(facts)] if facts.classes else []
    return [*check_doubles(facts), *check_groups(facts), *of_labels, *check_pixels(facts), *check_odd(facts)]


def _write_report(found: Inspection, opened: Opened, table: JoinedTable, *, pictures: bool) -> None:
    shown = thumbnails(opened.source, pictured(found.findings), table.trunks[0]) if pictures else None
    write_page(
        found.folder / REPORT,
        "inspect.html",
        title=f"What is wrong with {table.dataset}",
        made=about({"command": command_line()}, opened.device),
        findings=found.findings,
        classes=(*table.classes, ""),  # the last is of images that have no label, UNLABELLED
        images=sum(table.rows.values()),
        pictures=shown,
        folder=found.folder,
    )


def _show(found: Inspection) -> None:
    rows = [(each.code, f"{each.images:,}" if each.images else "", *effect(each)) for each in found.findings]
    if rows:
        result_table(COLUMNS, rows)
    for each in found.findings:
        result_prose(f"{each.code}: {each.sentence}.")
    if not found.findings:
        result("nothing found")
    result(f"images found: {found.folder / f'{LISTING}.csv'} (leave them out: --exclude)")
    result(f"report: {found.folder / REPORT}")
