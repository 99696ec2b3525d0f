"""`python -m benchmarks weights`: what weights are worth: a probe and trees on the features, on several image sets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace

from benchmarks.config import BenchWeightsConfig, on_few
from features.devices import resolve_device
from features.storage import check_writable, write_json
from features.table.joined import JoinedTable
from features.trunk.loaded import open_networks
from models.columns.workspace import Workspace
from models.heads.registry import DEFAULTS
from pipeline.config import RunConfig
from pipeline.console import result, result_table
from pipeline.provenance import about
from pipeline.report.statistics import Scores, score
from pipeline.stages.heads import make_heads, train_heads
from pipeline.stages.opened import open_images
from pipeline.stages.search import Candidate
from pipeline.stages.tables import check_testable, make_table, open_run

HEADS = ("linear", "xgb")


@dataclass(frozen=True, kw_only=True)
class SetFigures:
    """How each head does on the test images of one set, by weights and then by head.

    `rows` counts the images of each split; `share` tells how much of the way from the first weights to the last each
    goes (see `shares`).
    """

    dataset: str
    rows: Mapping[str, int]
    measured: Mapping[str, Mapping[str, Scores]]
    share: Mapping[str, Mapping[str, float | None]]


def run_bench_weights(datasets: list[str], config: BenchWeightsConfig) -> None:
    """Measure, print a table, and write `bench/weights.json`."""
    config = replace(config, run=on_few(config.run))
    device = resolve_device(config.run.device)
    folder = config.run.out / "bench"
    check_writable(folder)
    names = config.weight_names()
    for dataset in datasets:  # what is missing is said before minutes are spent
        open_images(dataset, config.run)
    for name in names:
        open_networks(config.of(datasets[0], name).trunk, seed=config.run.seed)
    sets = [_measure_set(dataset, names, config) for dataset in datasets]
    figures = {"sets": [asdict(each) for each in sets]}
    write_json(folder / "weights.json", asdict(about(asdict(config), device)) | figures)
    _show(sets)
    result(f"written to {folder / 'weights.json'}")


def _measure_set(dataset: str, names: list[str], config: BenchWeightsConfig) -> SetFigures:
    measured = {}
    for name in names:
        asked = config.of(dataset, name)
        opened = open_run(asked)
        table = make_table(opened, config.run)
        measured[name] = _scores(table, opened.weights_of(table), config.run)
    return SetFigures(dataset=table.dataset, rows=table.rows, measured=measured, share=shares(measured))


def _scores(table: JoinedTable, weights: str, run: RunConfig) -> dict[str, Scores]:
    check_testable(table)
    test = table.read("test")
    candidates = [Candidate(head=head) for head in make_heads(HEADS, DEFAULTS, run)]
    with Workspace() as workspace:
        trained = train_heads(candidates, table, workspace, run, weights=weights)
    return {name: score(item.head.predict_proba(test.x), test.y) for name, item in trained.items()}


def shares(measured: Mapping[str, Mapping[str, Scores]]) -> dict[str, dict[str, float | None]]:
    """How much of the way from the first weights' accuracy to the last's each goes, by weights and then by head.

    None where there is no way to go.
    """
    first, *_, last = measured.values()

    def share(scores: Mapping[str, Scores], head: str) -> float | None:
        start, whole = first[head].accuracy, last[head].accuracy - first[head].accuracy
        return (scores[head].accuracy - start) / whole if whole > 0 else None

    return {name: {head: share(scores, head) for head in HEADS} for name, scores in measured.items()}


def _show(sets: list[SetFigures]) -> None:
    for each in sets:
        counts = ", ".join(f"{count:,} {split}" for split, count in each.rows.items())
        names = [name for head in HEADS for name in (f"{head} %", "95 % interval", "of the way")]
        rows = [
            (name, *(cell for head in HEADS for cell in _cells(scores[head], each.share[name][head])))
            for name, scores in each.measured.items()
        ]
        result_table(("", *names), rows, title=f"{each.dataset}: {counts}")


def _cells(scores: Scores, share: float | None) -> tuple[str, str, str]:
    interval = f"{100 * scores.accuracy_low:.1f}–{100 * scores.accuracy_high:.1f}"
    return f"{100 * scores.accuracy:.2f}", interval, "" if share is None else f"{share:.0%}"
