"""`python -m benchmarks inspect`: how much of what is planted in image sets is found, and what many rows cost."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import pairwise

import numpy as np

from benchmarks.bursts import OfBursts, measure_bursts
from benchmarks.config import BenchInspectConfig, on_few
from benchmarks.flipped import Flipped, flip_labels
from benchmarks.many_rows import Scale, ScaleJob, measure_scale
from benchmarks.planted import Bursts, Kind, plant
from features.devices import resolve_device
from features.storage import check_writable, write_json
from features.table.folded import FoldedTable
from features.trunk.trunk import build_trunk
from pipeline.bench.common import measure_in_turn
from pipeline.config import FeaturesConfig, LearningConfig
from pipeline.console import remark, result, result_table
from pipeline.provenance import about
from pipeline.stages.opened import open_images
from pipeline.stages.tables import make_table, open_run

ENOUGH = 0.95
"""The least recall and precision of each kind, recall among many rows, and share of bursts that stay whole."""

OFF = 0.02
"""How far accuracy by groups may be from the truth, on the mean of the draws."""

ACCURACIES = ("alone", "grouped", "truth")

SECONDS, BYTES, GROWTH = 600, 2 * 2**30, 1.3
"""The most that the largest search may take and hold, and the exponent of its growth."""


@dataclass(frozen=True, kw_only=True)
class Measured:
    """All figures."""

    kinds: list[Kind] = field(default_factory=list)
    bursts: list[Bursts] = field(default_factory=list)
    flipped: list[Flipped] = field(default_factory=list)
    of_bursts: list[OfBursts] = field(default_factory=list)
    scales: list[Scale] = field(default_factory=list)


def run_bench_inspect(datasets: list[str], config: BenchInspectConfig) -> None:
    """Measure, print tables, write `bench/inspect.json`; exit with 1 where a line does not hold what is promised."""
    config = replace(config, run=on_few(config.run))
    device, folder = resolve_device(config.run.device), config.run.out / "bench"
    check_writable(folder)
    for dataset in datasets:  # what is missing is said before minutes are spent
        open_images(dataset, config.run)
    measured = Measured()
    for dataset in datasets:
        _measure(dataset, config, measured)
    jobs = {(f"{rows:,} rows",): ScaleJob(rows=rows, seed=config.run.seed) for rows in config.scales()}
    measured.scales.extend([found for (found,) in measure_in_turn(measure_scale, jobs, 1).values()])
    write_json(folder / "inspect.json", asdict(about(asdict(config), device)) | asdict(measured))
    _show(measured)
    broken = [*_broken(measured.kinds, measured.bursts), *_broken_labels(measured.flipped)]
    broken += [*_broken_groups(measured.of_bursts), *_broken_scale(measured.scales)]
    for line in broken:
        result(line)
    if broken:
        sys.exit(1)


def _measure(dataset: str, config: BenchInspectConfig, measured: Measured) -> None:
    source = open_images(dataset, config.run)
    device = resolve_device(config.run.device)
    trunks = {name: build_trunk(options, device) for name, options in config.trunks().items()}
    for name, planted in plant(source, trunks, config).items():
        measured.kinds.extend(planted.kinds())
        measured.bursts.append(planted.bursts())
        remark(f"{name} on {source.name}: near-doubles")
    for name, options in config.trunks().items():
        learning = LearningConfig(features=FeaturesConfig(dataset=dataset, trunk=options, run=config.run))
        table = make_table(open_run(learning.features), config.run)
        measured.flipped.extend(flip_labels(FoldedTable.of(table), name, learning))
        remark(f"{name} on {source.name}: labels")
        if not source.mirror_matters:
            measured.of_bursts.extend(measure_bursts(source, table, name, learning, config.draws))
            remark(f"{name} on {source.name}: bursts")


def _broken(kinds: Sequence[Kind], bursts: Sequence[Bursts]) -> Iterator[str]:
    """What is promised of image sets and does not hold, in a line each."""
    for each in kinds:
        of = f"{each.kind} on {each.dataset} with {each.trunk}"
        if each.recall < ENOUGH:
            yield f"{of}: recall is {each.recall:.1%}"
        if each.precision < ENOUGH:
            yield f"{of}: precision is {each.precision:.1%}"
    for burst in bursts:
        if burst.whole < ENOUGH * burst.bursts or burst.purity < ENOUGH:
            yield f"bursts on {burst.dataset} with {burst.trunk}: {burst.whole} whole, purity {burst.purity:.1%}"


def _broken_labels(flipped: Sequence[Flipped]) -> Iterator[str]:
    """What is promised of labels changed at random, on MNIST, and nowhere to be behind cleanlab."""
    for each in flipped:
        of = f"labels changed {each.how} on {each.dataset} with {each.trunk}"
        if each.dataset == "mnist" and each.how == "at random" and (each.recall < 0.8 or each.precision < 0.5):
            yield f"{of}: recall is {each.recall:.1%}, precision {each.precision:.1%}"
        if each.cleanlab and each.average < each.cleanlab[2] - 0.001:
            yield f"{of}: average precision is {each.average:.3f}, cleanlab's {each.cleanlab[2]:.3f}"


def _broken_groups(of_bursts: Sequence[OfBursts]) -> Iterator[str]:
    """Whether accuracy by groups is near the truth, on the mean of the draws."""
    for (dataset, trunk), draws in _by_trunk(of_bursts).items():
        off = abs(float(np.mean([each.grouped - each.truth for each in draws])))
        if off > OFF:
            yield f"bursts on {dataset} with {trunk}: accuracy by groups is {100 * off:.1f} points off"


def _by_trunk(of_bursts: Sequence[OfBursts]) -> dict[tuple[str, str], list[OfBursts]]:
    found: dict[tuple[str, str], list[OfBursts]] = {}
    for each in of_bursts:
        found.setdefault((each.dataset, each.trunk), []).append(each)
    return found


def _broken_scale(scales: Sequence[Scale]) -> Iterator[str]:
    """What is promised of many rows and does not hold, in a line each."""
    for each in scales:
        of = f"{each.rows:,} rows"
        if each.recall < ENOUGH:
            yield f"{of}: recall is {each.recall:.1%}"
        if each.seconds > SECONDS or each.peak_bytes > BYTES:
            yield f"{of}: {each.seconds:.0f} s, {each.peak_bytes / 2**30:.2f} GiB"
    for few, many in pairwise(scales):
        if _exponent(few, many) > GROWTH:
            yield f"{few.rows:,} to {many.rows:,} rows: the time grows by n^{_exponent(few, many):.2f}"


def _exponent(few: Scale, many: Scale) -> float:
    return float(np.log(many.seconds / few.seconds) / np.log(many.rows / few.rows))


def _show(measured: Measured) -> None:
    kinds, bursts, scales = measured.kinds, measured.bursts, measured.scales
    names = ("images", "trunk", "kind", "recall %", "precision %", "found", "reported", "clean pairs", "s")
    rows = [
        (
            f"{each.dataset}, {each.images:,}",
            each.trunk,
            each.kind,
            f"{100 * each.recall:.1f}",
            f"{100 * each.precision:.1f}",
            f"{each.found} of {each.planted}",
            f"{each.reported}",
            f"{each.clean}",
            f"{each.seconds:.1f}",
        )
        for each in kinds
    ]
    result_table(names, rows, title="near-doubles planted among images")
    grouped = [
        (each.dataset, each.trunk, f"{each.bursts}", f"{each.clusters}", f"{each.whole}", f"{100 * each.purity:.1f}")
        for each in bursts
    ]
    result_table(("images", "trunk", "bursts", "clusters", "whole", "purity %"), grouped, title="bursts")
    grown = ["–", *(f"n^{_exponent(few, many):.2f}" for few, many in pairwise(scales))]
    costs = [
        (
            f"{each.rows:,}",
            each.by,
            f"{each.seconds:.0f}",
            f"{each.peak_bytes / 2**30:.2f}",
            growth,
            f"{each.recall:.1%}",
        )
        for each, growth in zip(scales, grown, strict=True)
    ]
    result_table(("rows", "by", "s", "peak GiB", "growth", "recall"), costs, title="a search among many rows")
    labels = [
        (
            f"{each.dataset}, {each.images:,}",
            each.trunk,
            each.how,
            f"{each.right} of {each.flipped}",
            f"{100 * each.recall:.1f}",
            f"{100 * each.precision:.1f}",
            f"{each.average:.3f}",
            *(("–", "–") if each.cleanlab is None else (_of(each), f"{each.cleanlab[2]:.3f}")),
        )
        for each in measured.flipped
    ]
    names = ("images", "trunk", "changed", "found", "recall %", "precision %", "AP", "cleanlab", "its AP")
    result_table(names, labels, words=3, title="labels changed")
    result_table(
        ("images", "trunk", "draws", "image by image %", "by groups %", "truth %"),
        [(*of, f"{len(draws)}", *_means(draws)) for of, draws in _by_trunk(measured.of_bursts).items()],
        words=2,
        title="accuracy on bursts",
    )


def _means(draws: Sequence[OfBursts]) -> list[str]:
    """Those of each accuracy, in per cent."""
    return [f"{100 * np.mean([getattr(each, name) for each in draws]):.1f}" for name in ACCURACIES]


def _of(each: Flipped) -> str:
    """Recall and precision of cleanlab's suspects."""
    suspect, right, _ = each.cleanlab or (0, 0, 0.0)
    return f"{100 * right / each.flipped:.1f}, {100 * right / max(suspect, 1):.1f}"
