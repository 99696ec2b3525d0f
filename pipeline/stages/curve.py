"""What more labels would bring: heads that learn from some of the images, each fit's scores kept as soon as it is made.

The largest size is all images that may be learnt from. There one fit stands for all draws: it is the very head that
compare tests, and its luck is judged by how much draws of the other sizes differ.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pandas as pd
import safetensors
import safetensors.numpy
from numpy.typing import NDArray

from features.errors import first_line
from features.sources.source import LearningSplit
from features.storage import Json, digest, replacing, write_json
from features.table.folded import LEFT_OUT, FoldedTable
from features.table.joined import JoinedTable
from features.table.table import Rows
from models.card import classifier_folder
from models.columns.workspace import FEW_ROWS, FOLDS, Workspace, learnt_from
from models.fitted import array_of
from models.heads.head import Head
from pipeline.config import CurveConfig
from pipeline.console import progress, remark, result, result_table
from pipeline.errors import PipelineError
from pipeline.report.curve import LEAST_SIZES, NO_CURVE, AtSize, Curves, LabelCurve, Point, label_curve, worth
from pipeline.report.plots import curve_plots, drawn
from pipeline.report.statistics import log_likelihoods
from pipeline.stages.heads import make_heads
from pipeline.stages.nodes import best_nodes, run_nodes
from pipeline.stages.search import find_settings
from pipeline.stages.tables import check_testable, make_table, open_run

FORMAT = 1
"""Raised when what is kept changes, so that older scores are not taken for newer."""

SHARES = tuple(2 ** (-step / 2) for step in (4, 3, 2, 1, 0))
"""Of the images that may be learnt from."""

DRAWS = 5

LEAST_OF_CLASS = 2
"""Training images that each class keeps, where it has as many."""

MOST_SECONDS = 120
"""What a comparison spends on the curve, at most."""

KEPT = {"wrong": np.bool_, "loss": np.float32}
"""What is kept of a fit, by test image: whether it is wrong, and its log-loss."""

COLUMNS = ("images", "accuracy %", "95 % band", "log-loss", "95 % band")


def run_curve(config: CurveConfig) -> None:
    """Draw the curves that `config` asks for, on the test images; prints a table and a sentence for each head."""
    out = config.learning.features.run.out
    heads, table = prepare(config)
    curves = {head.name: measure_curve(head, table, out) for head in heads}
    folder = out / "curve" / f"{table.name}-{digest([kept_in(head, table, out).name for head in heads])[:8]}"
    for name, curve in curves.items():
        _show(name, curve, len(table.classes))
    write_json(folder / "curve.json", {"table": table.name, "heads": {name: asdict(c) for name, c in curves.items()}})
    with replacing(folder / "curve.svg") as scratch:
        scratch.write_text(
            drawn([plot for name, curve in curves.items() for plot in curve_plots(name, curve)]), encoding="utf-8"
        )
    result(f"curve: {folder / 'curve.svg'}")


def prepare(config: CurveConfig) -> tuple[list[Head], FoldedTable]:
    """Heads yet to learn, with the best settings, and what they learn from."""
    learning, run = config.learning, config.learning.features.run
    heads = make_heads(config.head_names(), config.settings, run)
    table = make_table(open_run(learning.features), run)
    check_testable(table)
    if learning.selects(table.trunks):
        table = best_nodes(table, run_nodes(table, run))
    with Workspace() as workspace:
        heads = [candidate.head for candidate in find_settings(heads, table, workspace, learning)]
    return heads, FoldedTable.of(table)


def curve_beside(heads: Mapping[str, tuple[Head, float]], recommended: str, table: JoinedTable, out: Path) -> Curves:
    """The curve of the recommended head, else of the linear one, whichever learns quickly enough; else none.

    `heads` have each head on `table`, and the seconds that it takes to learn from all images.
    """
    for name in dict.fromkeys((recommended, "linear")):
        head, seconds = heads.get(name, (None, 0.0))
        if head and seconds * _fits(sum(table.rows[split] for split in get_args(LearningSplit))) <= MOST_SECONDS:
            return {name: measure_curve(head, FoldedTable.of(table), out)}
    remark(f"label curve: left out, it would take more than {MOST_SECONDS} s (see treehead curve)")
    return {}


def _fits(images: int) -> float:
    """How many fits on all of so many images take as long as a curve; below FEW_ROWS a fit is of FOLDS tries."""
    sizes = [images * share for share in SHARES]
    tries = [FOLDS if size < FEW_ROWS <= images else 1 for size in sizes]  # a try has less to learn from
    return sum(count * share * draws for count, share, draws in zip(tries, SHARES, (*[DRAWS] * 4, 1), strict=True))


def measure_curve(head: Head, table: FoldedTable, out: Path) -> LabelCurve:
    """The curve of `head` on the test rows of `table`, from fits that are made now or were kept below `out`."""
    sizes = sizes_of(table, head.seed)
    if len(sizes) < LEAST_SIZES:
        return NO_CURVE
    start, tested, folder, test = time.perf_counter(), [], kept_in(head, table, out), table.read("test")
    what = f"{head.name} on {min(sizes):,} to {max(sizes):,} images"
    with progress(what, sum(map(len, sizes.values()))) as advance, Workspace() as workspace:
        for images, views in sizes.items():
            scores = []
            for view in views:
                scores.append(scores_of(head, view, test, workspace, folder))
                advance(1, f"{images:,} images")
            of_draws = {name: np.stack([each[name] for each in scores]) for name in KEPT}
            tested.append(AtSize(images=images, learnt=learnt_from(views[0].rows), **of_draws))
    remark(f"label curve: {what}, {DRAWS} draws of each size, in {time.perf_counter() - start:.1f} s")
    twice = learnt_from({split: 2 * count for split, count in table.rows.items()})
    return label_curve(tested, twice, table.alike("test"))


def sizes_of(table: FoldedTable, seed: int) -> dict[int, list[FoldedTable]]:
    """Several draws of each size, by how many images these are to learn from, the smallest first.

    In each draw every size holds the smaller ones, each class in proportion, and so do training and validation rows.
    """
    draws = [shares_of(table, np.random.default_rng([seed, draw])) for draw in range(DRAWS)]
    sizes = {}
    for share in SHARES:
        views = [part_of(table, shares, share) for shares in (draws if share < 1 else draws[:1])]
        sizes[sum(views[0].rows[split] for split in get_args(LearningSplit))] = views
    return sizes


def part_of(table: FoldedTable, shares: NDArray[np.float64], share: float) -> FoldedTable:
    """The rows of which `shares` (n,) are below `share`, in their splits."""
    return table.with_splits(np.where(shares < share, table.splits, LEFT_OUT))


def shares_of(table: FoldedTable, random: np.random.Generator) -> NDArray[np.float64]:
    """(n,) Beyond which share of the images that may be learnt from each row is among them; test rows always are.

    Images of one family come together: more images are those of more patients, say, not more of the same ones.
    """
    shares = np.zeros(len(table.splits))
    for split in get_args(LearningSplit):
        rows = np.flatnonzero(table.splits == split)
        labels = pd.Series(table.labels(split)).sample(frac=1, random_state=random)
        labels = labels.iloc[pd.factorize(table.alike(split)[labels.index])[0].argsort(kind="stable")]
        of_class = labels.groupby(labels)
        turn = of_class.cumcount()
        first = turn < (LEAST_OF_CLASS if split == "train" else 0)
        order = ((turn + 0.5) / of_class.transform("size")).mask(first, 0.0).sort_values(kind="stable").index
        shares[rows[order]] = np.arange(len(rows)) / len(rows)
        shares[rows[first.index[first]]] = 0.0
    return shares


def scores_of(head: Head, view: FoldedTable, test: Rows, workspace: Workspace, folder: Path) -> dict[str, NDArray[Any]]:
    """Which test images are wrong, and the log-loss of each, once `head` has learnt from `view`; found if kept."""
    path = folder / f"{digest(view.splits.tolist())[:16]}.safetensors"
    if path.exists():
        return _read(path, len(test))
    fitted = head.with_settings({}).fit(view, workspace, lambda _: None)
    probabilities = fitted.predict_proba(test.x)
    wrong, loss = probabilities.argmax(axis=1) != test.y, -log_likelihoods(probabilities, test.y)
    scores = dict(zip(KEPT, (wrong, loss.astype(np.float32)), strict=True))
    with replacing(path) as scratch:
        scratch.write_bytes(safetensors.numpy.save(scores))
    return scores


def _read(path: Path, rows: int) -> dict[str, NDArray[Any]]:
    try:
        kept = safetensors.numpy.load(path.read_bytes())
        return {name: array_of(kept, name, dtype, rows) for name, dtype in KEPT.items()}
    except (safetensors.SafetensorError, ValueError) as error:
        raise PipelineError(f"{path} is damaged ({first_line(error)}): delete it and run again") from error


def kept_in(head: Head, table: JoinedTable, out: Path) -> Path:
    """The folder for the scores of fits of `head`, with these settings, on rows of `table`."""
    what: Json = {"format": FORMAT, "head": classifier_folder(head, table)}
    return out / "models" / table.name / f"curve-{digest(what)[:8]}"


def _show(name: str, curve: LabelCurve, classes: int) -> None:
    rows = [_row(f"{point.images:,}", point) for point in curve.points]
    if curve.twice:
        rows.append(_row(f"{curve.twice.images:,}, foretold", curve.twice))
    result_table(COLUMNS, rows, title=name)
    result(worth(curve, classes))


def _row(images: str, point: Point) -> tuple[str, ...]:
    return (
        images,
        f"{100 * point.accuracy:.2f}",
        f"{100 * point.accuracy_low:.2f}–{100 * point.accuracy_high:.2f}",
        f"{point.log_loss:.4f}",
        f"{point.log_loss_low:.4f}–{point.log_loss_high:.4f}",
    )
