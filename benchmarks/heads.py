"""`python -m benchmarks heads`: our heads and other learners on the same rows, as ratios; and the trees' memory."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from benchmarks.config import BenchHeadsConfig
from benchmarks.contenders import ALL_ROWS, MEASURES, OURS, RIVALS, SLOWER, HeadJob, Measured, measure
from benchmarks.memory import TIMES, MemoryJob, PeakMemory, growth, measure_memory
from benchmarks.tables import in_proportion, write_some
from benchmarks.waiting import measure_waiting, show_waiting
from features.devices import resolve_device
from features.storage import Json, check_writable, write_json
from features.table.joined import JoinedTable
from models.heads.registry import DEFAULTS, HEADS
from pipeline.bench.common import measure_in_turn
from pipeline.console import result, result_table
from pipeline.errors import ConfigError
from pipeline.provenance import Provenance, about
from pipeline.stages.tables import check_testable, make_table, open_run

MEMORY = "memory"

ALL, SOME = "all rows", "some rows"

Name = tuple[str, str]
"""ALL or SOME, and what is measured."""


@dataclass(frozen=True, kw_only=True)
class Section:
    """What was measured on one table: its images by split and its columns by node, and the runs.

    `seconds_over` has how many times as long as each of ours everything took to fit; `gpu_and_cpu_agree` the share of
    test images of which trees grown on either say the same, None unless both were measured.
    """

    rows: Mapping[str, int]
    columns: tuple[int, ...]
    measured: Mapping[str, Measured]
    seconds_over: Mapping[str, Mapping[str, float]]
    gpu_and_cpu_agree: float | None = None

    def to_json(self) -> dict[str, Json]:
        """What is written of it; without the last where that is None."""
        content: dict[str, Json] = {
            "rows": self.rows,
            "columns": self.columns,
            "measured": {name: run.to_json() for name, run in self.measured.items()},
            "seconds_over": self.seconds_over,
        }
        return content if self.gpu_and_cpu_agree is None else content | {"gpu_and_cpu_agree": self.gpu_and_cpu_agree}


@dataclass(frozen=True, kw_only=True)
class MemorySection:
    """The trees' memory on the table and on its training rows several times over, and how it grows (see `growth`)."""

    measured: tuple[PeakMemory, ...]
    more_bytes: float
    more_quantised_bytes: float
    beyond_quantised: float


def run_bench_heads(config: BenchHeadsConfig) -> None:
    """Measure, print tables, and write `bench/heads.json`."""
    folder = config.features.run.out / "bench"
    check_writable(folder)
    skipped = names_to_skip(config)
    table = make_table(open_run(config.features), config.features.run)
    check_testable(table)
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        some = write_some(table, in_proportion(table, config.rows, config.features.run.seed), Path(scratch) / "some")
        jobs = _jobs(config, {ALL: table, SOME: some}, skipped, Path(scratch))
        runs = {name: run for name, (run,) in measure_in_turn(measure, jobs, 1).items()}
        held = [] if MEMORY in skipped else _measure_memory(table, config.features.run.seed)
        alone = {what: job for (kind, what), job in jobs.items() if kind == ALL and config.busy}
        waits = measure_waiting(alone) if alone else None
    sections = {ALL: section(table, _runs_of(runs, ALL)), SOME: section(some, _runs_of(runs, SOME))}
    memory = MemorySection(measured=tuple(held), **growth(*held)) if held else None
    figures = {
        "table": table.name,
        "slower": asdict(SLOWER),
        **{kind: each.to_json() for kind, each in sections.items()},
        MEMORY: asdict(memory) if memory else None,
        "waiting": waits,
    }
    write_json(folder / "heads.json", asdict(_made(config, with_lightgbm=(SOME, "lightgbm") in runs)) | figures)
    for each in sections.values():
        _show_section(each)
    if memory:
        _show_memory(memory)
    if waits:
        show_waiting(waits)
    result(f"written to {folder / 'heads.json'}")


def _made(config: BenchHeadsConfig, *, with_lightgbm: bool) -> Provenance:
    settings = asdict(config.features) | {"rows": config.rows, "skip": config.skip}
    made = about(settings, resolve_device(config.features.run.device))
    more = {"lightgbm": version("lightgbm")} if with_lightgbm else {}
    return replace(made, versions={**made.versions, **more})


def names_to_skip(config: BenchHeadsConfig) -> set[str]:
    """What is not to be measured; raises ConfigError for a name that there is not, and for what cannot be measured."""
    names = {name.strip() for name in config.skip.split(",") if name.strip()}
    choices = [*MEASURES, MEMORY]
    unknown = sorted(names - set(choices))
    if unknown:
        raise ConfigError(f"--skip {', '.join(unknown)} is not measured: expected some of {', '.join(choices)}")
    for whole in MEASURES:
        parts = sorted(names & set(_parts_of(whole)))
        if parts and whole not in names:
            raise ConfigError(f"--skip {', '.join(parts)} leaves {whole}, which is made of it: add {whole} to --skip")
    if "lightgbm" not in names and not find_spec("lightgbm"):
        raise ConfigError('lightgbm is not installed: pip install "treehead[bench]", or add lightgbm to --skip')
    return names


def _jobs(
    config: BenchHeadsConfig, tables: dict[str, JoinedTable], skipped: set[str], scratch: Path
) -> dict[Name, HeadJob]:
    device = resolve_device(config.features.run.device)
    absent = skipped | (set() if device.type == "cuda" else {"xgb-on-cpu"})
    if len(tables[ALL].tables) == 1:
        absent |= {name for name in OURS if name.endswith("last-node")}
    return {
        (kind, what): HeadJob(
            what=what,
            folders=tuple(each.folder for each in tables[kind].tables),
            device=str(device),
            seed=config.features.run.seed,
            scratch=scratch,
        )
        for kind, names in ((ALL, ALL_ROWS), (SOME, [*OURS, *RIVALS]))
        for what in names
        if what not in absent
    }


def _measure_memory(table: JoinedTable, seed: int) -> list[PeakMemory]:
    folders = tuple(each.folder for each in table.tables)
    jobs = {(MEMORY, f"{times} times"): MemoryJob(folders=folders, times=times, seed=seed) for times in TIMES}
    return [held for (held,) in measure_in_turn(measure_memory, jobs, 1).values()]


def _runs_of(runs: dict[Name, Measured], kind: str) -> dict[str, Measured]:
    """What was measured on all rows, or on some; who is made of others holds what they hold, one after the other."""
    found = {what: run for (rows, what), run in runs.items() if rows == kind}
    return {what: _with_parts(run, [found[part] for part in _parts_of(what)]) for what, run in found.items()}


def _parts_of(what: str) -> tuple[str, ...]:
    """The heads that one of MEASURES is made of."""
    return DEFAULTS.of(what).parts if what in HEADS else ()


def _with_parts(run: Measured, parts: list[Measured]) -> Measured:
    every = [run, *parts]
    most, most_on_gpu = max(each.peak_bytes for each in every), max(each.gpu_bytes for each in every)
    return replace(run, peak_bytes=most, gpu_bytes=most_on_gpu)


def section(table: JoinedTable, runs: Mapping[str, Measured]) -> Section:
    """What was measured on one table, and how many times as long as each of ours everything took."""
    ours = [name for name in runs if name in OURS]
    agree = None
    if "xgb-on-cpu" in runs and "xgb" in runs:
        agree = float(np.mean(runs["xgb"].predicted == runs["xgb-on-cpu"].predicted))
    return Section(
        rows=table.rows,
        columns=table.dims,
        measured=runs,
        seconds_over={name: {other: run.seconds / runs[name].seconds for other, run in runs.items()} for name in ours},
        gpu_and_cpu_agree=agree,
    )


def _show_section(figures: Section) -> None:
    if not figures.measured:
        return
    rows = figures.rows
    title = f"{rows.get('train', 0):,} + {rows.get('validation', 0):,} images to learn from, {rows['test']:,} for test"
    names = ("", "accuracy %", "95 % interval", "log-loss", "fit s", "peak GiB")
    result_table(names, [_cells(what, run) for what, run in figures.measured.items()], title=title)
    if figures.seconds_over:
        _show_ratios(figures.seconds_over)
    if figures.gpu_and_cpu_agree is not None:
        result(f"trees grown on the GPU and on the CPU agree on {figures.gpu_and_cpu_agree:.2%} of the test images")


def _cells(what: str, run: Measured) -> tuple[str, ...]:
    scores = run.scores
    interval = f"{100 * scores.accuracy_low:.2f}–{100 * scores.accuracy_high:.2f}"
    quality = (f"{100 * scores.accuracy:.2f}", interval, f"{scores.log_loss:.4f}")
    return (what, *quality, f"{run.seconds:.1f}", f"{run.peak_bytes / 2**30:.2f}")


def _show_ratios(over: Mapping[str, Mapping[str, float]]) -> None:
    rows = [(what, *(f"{ratios[what]:.2f}" for ratios in over.values())) for what in next(iter(over.values()))]
    result_table(("", *(name.replace("-", " ") for name in over)), rows, title="times as long to fit as")


def _show_memory(figures: MemorySection) -> None:
    rows = [
        (f"{held.rows:,} training rows", f"{held.peak_bytes / 2**30:.2f}", f"{held.quantised_bytes / 2**30:.2f}")
        for held in figures.measured
    ]
    result_table(("", "peak GiB", "of these quantised"), rows, title="memory of the trees on the CPU")
    result(f"beyond its quantised rows, the longer table raises the peak by {figures.beyond_quantised:.0%}")
