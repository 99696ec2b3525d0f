"""`python -m benchmarks trunks`: what each trunk is worth on several image sets, alone and chosen by validation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace

import numpy as np

from benchmarks.config import BenchTrunksConfig, on_few
from features.devices import resolve_device
from features.storage import check_writable, write_json
from features.trunk.loaded import open_networks
from models.columns.workspace import Workspace
from models.heads.registry import DEFAULTS
from pipeline.console import remark, result, result_table
from pipeline.provenance import about
from pipeline.report.statistics import Scores, score
from pipeline.stages.heads import make_heads, train_heads
from pipeline.stages.nodes import best_nodes, run_nodes
from pipeline.stages.opened import open_images
from pipeline.stages.search import find_settings
from pipeline.stages.tables import check_testable, make_table, open_run, us_per_image

HEADS = ("linear", "xgb", "hybrid")


@dataclass(frozen=True, kw_only=True)
class TrunkFigures:
    """How each head does on the test images with the features of `nodes`, and how many images a second these take."""

    nodes: tuple[str, ...]
    images_per_second: float | None
    heads: Mapping[str, Scores]


@dataclass(frozen=True, kw_only=True)
class SetFigures:
    """What each contender gives on one set of images; `rows` counts those of each split."""

    dataset: str
    rows: Mapping[str, int]
    trunks: Mapping[str, TrunkFigures]


def run_bench_trunks(datasets: list[str], config: BenchTrunksConfig) -> None:
    """Measure, print a table a set and one of all, and write `bench/trunks.json`."""
    config = replace(config, run=on_few(config.run))
    device = resolve_device(config.run.device)
    folder = config.run.out / "bench"
    check_writable(folder)
    for dataset in datasets:  # what is missing is said before minutes are spent
        open_images(dataset, config.run)
    for trunk in config.contenders().values():
        open_networks(trunk)
    sets = []
    for dataset in datasets:
        sets.append(_measure_set(dataset, config))
        _show_set(sets[-1])
        figures = {"sets": [asdict(each) for each in sets]}
        write_json(folder / "trunks.json", asdict(about(asdict(config), device)) | figures)
    _show_means(sets)
    result(f"written to {folder / 'trunks.json'}")


def _measure_set(dataset: str, config: BenchTrunksConfig) -> SetFigures:
    trunks = {}
    for name in config.contenders():
        remark(f"{dataset}, {name}")
        trunks[name], rows, shown = _measure(dataset, name, config)
    return SetFigures(dataset=shown, rows=rows, trunks=trunks)


def _measure(dataset: str, name: str, config: BenchTrunksConfig) -> tuple[TrunkFigures, Mapping[str, int], str]:
    asked, run = config.of(dataset, name), config.run
    opened = open_run(asked.features)
    table = make_table(opened, run)
    check_testable(table)
    us = us_per_image(table)  # of all that had to be extracted to choose
    if asked.selects(table.trunks):
        table = best_nodes(table, run_nodes(table, run))
    with Workspace() as workspace:
        candidates = find_settings(make_heads(HEADS, DEFAULTS, run), table, workspace, asked)
        trained = train_heads(candidates, table, workspace, run, weights=opened.weights_of(table))
    test = table.read("test")
    heads = {name: score(item.head.predict_proba(test.x), test.y) for name, item in trained.items()}
    nodes = tuple(trunk.title for trunk in table.trunks)
    return TrunkFigures(nodes=nodes, images_per_second=us and 1e6 / us, heads=heads), table.rows, table.dataset


def _show_set(figures: SetFigures) -> None:
    counts = ", ".join(f"{count:,} {split}" for split, count in figures.rows.items())
    names = [name for head in HEADS for name in (f"{head} %", "95 % interval", "log-loss")]
    rows = [
        (name, "–" if each.images_per_second is None else f"{each.images_per_second:,.0f}", *_cells(each))
        for name, each in figures.trunks.items()
    ]
    result_table(("", "images/s", *names), rows, title=f"{figures.dataset}: {counts}")


def _cells(figures: TrunkFigures) -> list[str]:
    return [
        cell
        for head in figures.heads.values()
        for cell in (
            f"{100 * head.accuracy:.2f}",
            f"{100 * head.accuracy_low:.1f}–{100 * head.accuracy_high:.1f}",
            f"{head.log_loss:.3f}",
        )
    ]


def _show_means(sets: list[SetFigures]) -> None:
    """Means over the sets, each counting as much as any other."""

    def mean(name: str, head: str, what: str) -> float:
        return float(np.mean([getattr(each.trunks[name].heads[head], what) for each in sets]))

    columns = [(head, what) for head in HEADS for what in ("accuracy", "log_loss")]
    rows = [(name, *(f"{mean(name, *column):.4f}" for column in columns)) for name in sets[0].trunks]
    names = [f"{head} {what.replace('_', '-')}" for head, what in columns]
    result_table(("", *names), rows, title=f"mean of {len(sets)} sets")
