"""`bench weights`: what trained weights are worth: a probe and trees on the features of each, on several image sets."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from rich.table import Table

from benchmarks.config import BenchWeightsConfig
from features.devices import resolve_device
from features.storage import check_writable, write_json
from features.table.joined import JoinedTable
from features.trunk.loaded import open_network
from models.columns.workspace import Workspace
from models.heads.registry import DEFAULTS
from pipeline.config import RunConfig
from pipeline.console import result, result_table
from pipeline.provenance import about
from pipeline.report.statistics import score
from pipeline.stages.heads import make_heads, train_heads
from pipeline.stages.search import Candidate
from pipeline.stages.tables import check_testable, make_table, open_images, open_run

HEADS = ("linear", "xgb")

Figures = dict[str, Any]


def run_bench_weights(datasets: list[str], config: BenchWeightsConfig) -> None:
    """Measure, print a table, and write `bench/weights.json`."""
    device = resolve_device(config.run.device)
    folder = config.run.out / "bench"
    check_writable(folder)
    names = config.weight_names()
    for dataset in datasets:  # what is missing is said before minutes are spent
        open_images(dataset, config.run)
    for name in names:
        open_network(config.of(datasets[0], name).trunk, seed=config.run.seed)
    sets = [_measure_set(dataset, names, config) for dataset in datasets]
    write_json(folder / "weights.json", {**about(asdict(config), device), "sets": sets})
    _show(sets)
    result(f"written to {folder / 'weights.json'}")


def _measure_set(dataset: str, names: list[str], config: BenchWeightsConfig) -> Figures:
    """The accuracy of each head on the test images, for each weights."""
    measured: dict[str, Figures] = {}
    for name in names:
        asked = config.of(dataset, name)
        opened = open_run(asked)
        table = make_table(opened, asked)
        measured[name] = _accuracies(table, opened.loaded.weights.reopen, config.run)
    return {"dataset": table.dataset, "rows": table.rows, "measured": measured, "share": shares(measured)}


def _accuracies(table: JoinedTable, weights: str, run: RunConfig) -> Figures:
    check_testable(table)
    test = table.read("test")
    candidates = [Candidate(head=head) for head in make_heads(HEADS, DEFAULTS, run)]
    with Workspace() as workspace:
        trained = train_heads(candidates, table, workspace, weights=weights, out=run.out)
    return {name: asdict(score(item.head.predict_proba(test.x), test.y)) for name, item in trained.items()}


def shares(measured: dict[str, Figures]) -> dict[str, Figures]:
    """How much of the way from the first weights to the last each goes, by head; None where there is no way to go."""
    first, *_, last = measured.values()

    def share(figures: Figures, head: str) -> float | None:
        whole = last[head]["accuracy"] - first[head]["accuracy"]
        return (figures[head]["accuracy"] - first[head]["accuracy"]) / whole if whole > 0 else None

    return {name: {head: share(figures, head) for head in HEADS} for name, figures in measured.items()}


def _show(sets: list[Figures]) -> None:
    for each in sets:
        counts = ", ".join(f"{count:,} {split}" for split, count in each["rows"].items())
        table = Table(title=f"{each['dataset']}: {counts}", title_justify="left", box=None, padding=(0, 2, 0, 0))
        table.add_column("", overflow="fold")
        for head in HEADS:
            for name in (f"{head} %", "95 % interval", "of the way"):
                table.add_column(name, justify="right", no_wrap=True)
        for name, figures in each["measured"].items():
            table.add_row(name, *(cell for head in HEADS for cell in _cells(figures[head], each["share"][name][head])))
        result_table(table)


def _cells(figures: Figures, share: float | None) -> tuple[str, str, str]:
    interval = f"{100 * figures['accuracy_low']:.1f}–{100 * figures['accuracy_high']:.1f}"
    return f"{100 * figures['accuracy']:.2f}", interval, "" if share is None else f"{share:.0%}"
