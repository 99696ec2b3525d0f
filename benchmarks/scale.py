"""`python -m benchmarks scale`: what a million keys and a million rows cost on one machine, and how that grows.

The rows are synthetic, and heads are told to stop early: their seconds say how cost grows, not what a good head takes.
Growth is that of the seconds that cores worked, on which other work on the machine has little influence.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

import numpy as np
import torch

from benchmarks.config import SHORT, BenchScaleConfig
from benchmarks.keys import Keys, KeysJob, measure_keys
from benchmarks.synthetic import first_rows, write_synthetic
from features.storage import check_writable, write_json
from models.columns.workspace import Workspace
from models.heads.head import ColumnsHead
from models.heads.registry import make_head
from pipeline.bench.common import measure_in_turn
from pipeline.console import remark, result, result_table
from pipeline.costs import peak_bytes
from pipeline.provenance import about

KEYS_SECONDS, KEYS_BYTES = 120, 1.5 * 2**30
"""The most that the keys may take and hold."""

HEAD_BYTES, GROWTH = 4 * 2**30, 1.1
"""The most that a head may hold, and the exponent of the growth of keys and trees."""

GROWING = ("keys", "xgb")

GIB = 2**30


@dataclass(frozen=True, kw_only=True)
class HeadJob:
    """A head, told what SHORT says, on the first `rows` of the synthetic table in `folder`."""

    head: str
    folder: Path
    rows: int
    seed: int


@dataclass(frozen=True, kw_only=True)
class Learnt:
    """What it took: seconds in all, of it to put the rows aside, and of a core; the most memory that the process held.

    `before_bytes` is what it held before it had any rows: torch and its libraries above all.
    """

    rows: int
    seconds: float
    aside: float
    core_seconds: float
    peak_bytes: int
    before_bytes: int
    accuracy: float


def measure_head(job: HeadJob) -> Learnt:
    """Let a head learn once on the CPU; meant for a process of its own."""
    table = first_rows(job.folder, job.rows)
    head = make_head(job.head, SHORT, seed=job.seed, device=torch.device("cpu"))
    assert isinstance(head, ColumnsHead)
    before = peak_bytes()
    with Workspace() as workspace:
        start, core = time.perf_counter(), time.process_time()
        head.fit(table, workspace, lambda _: None)
        seconds, core = time.perf_counter() - start, time.process_time() - core
        aside = workspace.lessons(table, head.columns, job.seed).seconds
    peak, test = peak_bytes(), next(table.batches("test", 1000))
    right = head.predict_proba(test.x).argmax(axis=1) == test.y
    return Learnt(
        rows=job.rows,
        seconds=seconds,
        aside=aside,
        core_seconds=core,
        peak_bytes=peak,
        before_bytes=before,
        accuracy=float(right.mean()),
    )


def run_bench_scale(config: BenchScaleConfig) -> None:
    """Measure, print tables, write `bench/scale.json`; exit with 1 where a line does not hold what is promised."""
    folder = config.out / "bench"
    check_writable(folder)
    keys = _measure_keys(config, folder)
    table = write_synthetic(folder, config.sizes()[-1], config.columns, config.seed)
    remark(f"the synthetic table is in {table}: it is used again, and may be removed")
    heads = _measure_heads(config, table)
    figures = {
        "keys": [asdict(run) for runs in keys for run in runs],
        "heads": {name: [asdict(run) for run in runs] for name, runs in heads.items()},
    }
    told = {"heads": SHORT, **asdict(config)}
    write_json(folder / "scale.json", asdict(about(told, torch.device("cpu"))) | figures)
    _show_keys(keys)
    _show_heads(heads, config.columns)
    broken = list(_broken(keys, heads))
    for line in broken:
        result(line)
    if broken:
        sys.exit(1)


def _measure_keys(config: BenchScaleConfig, folder: Path) -> list[list[Keys]]:
    jobs = {(f"{size:,} keys",): KeysJob(keys=size, folder=folder) for size in config.sizes()}
    return list(measure_in_turn(measure_keys, jobs, config.rounds).values())


def _measure_heads(config: BenchScaleConfig, table: Path) -> dict[str, list[Learnt]]:
    jobs = {
        (name, f"{rows:,} rows"): HeadJob(head=name, folder=table, rows=rows, seed=config.seed)
        for name, sizes in config.heads().items()
        for rows in sizes
    }
    runs = measure_in_turn(measure_head, jobs, 1)
    return {name: [run for (head, _), (run,) in runs.items() if head == name] for name in config.heads()}


def exponent(counts: Sequence[int], seconds: Sequence[float]) -> float:
    """The slope of the logarithm of seconds by that of counts, by least squares: 1 where cost is proportional."""
    return float(np.polyfit(np.log(counts), np.log(seconds), 1)[0]) if len(counts) > 1 else 0.0


def _growth(keys: Sequence[Sequence[Keys]], heads: Mapping[str, Sequence[Learnt]]) -> dict[str, float]:
    """The exponent of each growth, of the medians of runs."""
    points = {name: [(run.rows, run.core_seconds) for run in runs] for name, runs in heads.items()}
    points |= {"keys": [(runs[0].keys, median(run.core_seconds for run in runs)) for runs in keys]}
    return {name: exponent(*zip(*of, strict=True)) for name, of in points.items() if of}


def _broken(keys: Sequence[Sequence[Keys]], heads: Mapping[str, Sequence[Learnt]]) -> Iterator[str]:
    """What is promised and does not hold, in a line each."""
    for run in (run for runs in keys for run in runs):
        if run.total > KEYS_SECONDS or run.peak_bytes > KEYS_BYTES:
            yield f"{run.keys:,} keys: {run.total:.0f} s, {run.peak_bytes / GIB:.2f} GiB"
    for name, runs in heads.items():
        for learnt in runs:
            if learnt.peak_bytes > HEAD_BYTES:
                yield f"{name} on {learnt.rows:,} rows: {learnt.peak_bytes / GIB:.2f} GiB"
    for name, slope in _growth(keys, heads).items():
        if name in GROWING and slope > GROWTH:
            yield f"{name}: the time grows by n^{slope:.2f}"


def _show_keys(keys: Sequence[Sequence[Keys]]) -> None:
    stages = list(keys[0][0].seconds)
    rows = [
        (
            f"{runs[0].keys:,}",
            f"{runs[0].shards:,}",
            *(f"{median(run.seconds[stage] for run in runs):.1f}" for stage in stages),
            f"{median(run.total for run in runs):.1f}",
            f"{median(run.core_seconds for run in runs):.1f}",
            f"{max(run.peak_bytes for run in runs) / GIB:.2f}",
        )
        for runs in keys
    ]
    title = f"keys: seconds of each stage; all grow by n^{_growth(keys, {})['keys']:.2f}"
    result_table(("keys", "shards", *stages, "all", "of a core", "peak GiB"), rows, title=title)


def _show_heads(heads: Mapping[str, Sequence[Learnt]], columns: int) -> None:
    slopes = _growth([], heads)
    rows = [
        (
            name,
            f"{run.rows:,}",
            f"{run.aside:.0f}",
            f"{run.seconds:.0f}",
            f"{run.core_seconds:.0f}",
            f"{run.peak_bytes / GIB:.2f}",
            f"{run.before_bytes / GIB:.2f}",
            f"n^{slopes[name]:.2f}" if len(runs) > 1 else "–",
            f"{100 * run.accuracy:.1f}",
        )
        for name, runs in heads.items()
        for run in runs
    ]
    names = ("head", "rows", "put aside s", "all s", "of a core s", "peak GiB", "before GiB", "growth", "accuracy %")
    xgb, linear, mlp = SHORT.xgb, SHORT.linear, SHORT.mlp
    title = (
        f"heads on {columns} columns, stopped early: xgb {xgb.rounds} rounds; linear {len(linear.penalties)} penalties "
        f"of {linear.iterations} steps, {len(linear.shrinkages)} shrinkage; mlp {mlp.epochs} epochs"
    )
    result_table(names, rows, title=title)
