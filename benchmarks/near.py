"""`python -m benchmarks near`: how many planted near-doubles are found on image sets, and what many rows cost."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from itertools import pairwise
from typing import Any

import numpy as np

from benchmarks.config import BenchNearConfig
from benchmarks.many_rows import Scale, ScaleJob, measure_scale
from benchmarks.planted import Bursts, Kind, plant
from features.devices import resolve_device
from features.storage import check_writable, write_json
from features.trunk.trunk import build_trunk
from pipeline.bench.common import measure_in_turn
from pipeline.console import remark, result, result_table
from pipeline.provenance import about
from pipeline.stages.opened import open_images

ENOUGH = 0.95
"""The least recall and precision of each kind, recall among many rows, and share of bursts that stay whole."""

SECONDS, BYTES, GROWTH = 600, 2 * 2**30, 1.3
"""The most that the largest search may take and hold, and the exponent of its growth."""


def run_bench_near(datasets: list[str], config: BenchNearConfig) -> None:
    """Measure, print tables, write `bench/near.json`; exit with 1 where a line does not hold what is promised."""
    device, folder = resolve_device(config.run.device), config.run.out / "bench"
    check_writable(folder)
    sources = [open_images(dataset, config.run) for dataset in datasets]
    trunks = {name: build_trunk(options, device) for name, options in config.trunks().items()}
    kinds: list[Kind] = []
    bursts: list[Bursts] = []
    for source in sources:
        for name, planted in plant(source, trunks, config).items():
            kinds += planted.kinds()
            bursts.append(planted.bursts())
            remark(f"{name} on {source.name}")
    jobs = {(f"{rows:,} rows",): ScaleJob(rows=rows, seed=config.run.seed) for rows in config.scales()}
    scales = [found for (found,) in measure_in_turn(measure_scale, jobs, 1).values()]
    figures: dict[str, list[Any]] = {"kinds": kinds, "bursts": bursts, "scale": scales}
    written = {name: [asdict(each) for each in part] for name, part in figures.items()}
    write_json(folder / "near.json", asdict(about(asdict(config), device)) | written)
    _show(kinds, bursts, scales)
    broken = [*_broken(kinds, bursts), *_broken_scale(scales)]
    for line in broken:
        result(line)
    if broken:
        sys.exit(1)


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


def _show(kinds: Sequence[Kind], bursts: Sequence[Bursts], scales: Sequence[Scale]) -> None:
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
