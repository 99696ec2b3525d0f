"""`bench heads`: our heads, what other learners take for the same rows, as ratios of one run, and the trees' memory."""

from __future__ import annotations

import tempfile
from dataclasses import asdict, replace
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from rich.table import Table

from benchmarks.config import BenchHeadsConfig
from benchmarks.contenders import ALL_ROWS, MEASURES, OURS, RIVALS, SLOWER, HeadJob, Measured, measure
from benchmarks.memory import TIMES, MemoryJob, PeakMemory, growth, measure_memory
from benchmarks.tables import in_proportion, write_some
from features.devices import resolve_device
from features.storage import check_writable, write_json
from features.table.joined import JoinedTable
from models.heads.head import JsonObject
from models.heads.registry import DEFAULTS, HEADS
from pipeline.bench.common import measure_in_turn
from pipeline.console import result, result_table
from pipeline.errors import ConfigError
from pipeline.provenance import about
from pipeline.stages.tables import check_testable, make_table, open_run

MEMORY = "memory"

ALL, SOME = "all rows", "some rows"

Name = tuple[str, str]
"""ALL or SOME, and what is measured."""


def run_bench_heads(config: BenchHeadsConfig) -> None:
    """Measure, print tables, and write `bench/heads.json`."""
    device = resolve_device(config.features.run.device)
    folder = config.features.run.out / "bench"
    check_writable(folder)
    skipped = names_to_skip(config)
    table = make_table(open_run(config.features), config.features)
    check_testable(table)
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        some = write_some(table, in_proportion(table, config.rows, config.features.run.seed), Path(scratch) / "some")
        jobs = _jobs(config, {ALL: table, SOME: some}, skipped, Path(scratch))
        runs = {name: run for name, (run,) in measure_in_turn(measure, jobs, 1).items()}
        held = [] if MEMORY in skipped else _measure_memory(table, config.features.run.seed)
    content = about(asdict(config.features) | {"rows": config.rows, "skip": config.skip}, device)
    if (SOME, "lightgbm") in runs:
        content["versions"]["lightgbm"] = version("lightgbm")
    figures = {
        "table": table.name,
        "slower": asdict(SLOWER),
        ALL: section(table, _runs_of(runs, ALL)),
        SOME: section(some, _runs_of(runs, SOME)),
        MEMORY: memory_section(held),
    }
    write_json(folder / "heads.json", content | figures)
    _show(figures)
    result(f"written to {folder / 'heads.json'}")


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


def section(table: JoinedTable, runs: dict[str, Measured]) -> JsonObject:
    """The figures on one table, and how many times as long as each of ours everything took."""
    ours = [name for name in runs if name in OURS]
    figures: JsonObject = {
        "rows": table.rows,
        "columns": table.dims,
        "measured": {name: run.to_json() for name, run in runs.items()},
        "seconds_over": {
            name: {other: run.seconds / runs[name].seconds for other, run in runs.items()} for name in ours
        },
    }
    if "xgb-on-cpu" in runs and "xgb" in runs:
        figures["gpu_and_cpu_agree"] = float(np.mean(runs["xgb"].predicted == runs["xgb-on-cpu"].predicted))
    return figures


def memory_section(held: list[PeakMemory]) -> JsonObject | None:
    """The trees' memory on the table, and on its training rows several times over."""
    return {"measured": [asdict(each) for each in held], **growth(*held)} if held else None


def _show(figures: JsonObject) -> None:
    for kind in (ALL, SOME):
        if figures[kind]["measured"]:
            _show_section(figures[kind])
    if figures[MEMORY]:
        _show_memory(figures[MEMORY])


def _show_section(figures: JsonObject) -> None:
    rows = figures["rows"]
    title = f"{rows.get('train', 0):,} + {rows.get('validation', 0):,} images to learn from, {rows['test']:,} for test"
    table = _table(title, ["accuracy %", "95 % interval", "log-loss", "fit s", "peak GiB"])
    for what, run in figures["measured"].items():
        interval = f"{100 * run['accuracy_low']:.2f}–{100 * run['accuracy_high']:.2f}"
        quality = (f"{100 * run['accuracy']:.2f}", interval, f"{run['log_loss']:.4f}")
        table.add_row(what, *quality, f"{run['fit_seconds']:.1f}", f"{run['peak_bytes'] / 2**30:.2f}")
    result_table(table)
    if figures["seconds_over"]:
        _show_ratios(figures["seconds_over"])
    if "gpu_and_cpu_agree" in figures:
        result(f"trees grown on the GPU and on the CPU agree on {figures['gpu_and_cpu_agree']:.2%} of the test images")


def _show_ratios(over: dict[str, dict[str, float]]) -> None:
    table = _table("times as long to fit as", [name.replace("-", " ") for name in over])
    for what in next(iter(over.values())):
        table.add_row(what, *(f"{ratios[what]:.2f}" for ratios in over.values()))
    result_table(table)


def _show_memory(figures: JsonObject) -> None:
    table = _table("memory of the trees on the CPU", ["peak GiB", "of these quantised"])
    for held in figures["measured"]:
        sizes = (held["peak_bytes"], held["quantised_bytes"])
        table.add_row(f"{held['rows']:,} training rows", *(f"{size / 2**30:.2f}" for size in sizes))
    result_table(table)
    result(f"beyond its quantised rows, the longer table raises the peak by {figures['beyond_quantised']:.0%}")


def _table(title: str, names: list[str]) -> Table:
    table = Table(title=title, title_justify="left", box=None, padding=(0, 2, 0, 0))
    table.add_column("", no_wrap=True)
    for name in names:
        table.add_column(name, justify="right")
    return table
