"""`bench features`: extraction against the network alone and against the tutorials' way, as ratios of one run."""

from __future__ import annotations

import multiprocessing
import os
import platform
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from PIL import Image
from rich.table import Table
from sklearn.datasets import load_sample_images

from features.devices import resolve_device, resolve_precision
from features.sources import open_source
from features.storage import check_writable, write_json
from models.persist import package_versions
from pipeline.bench.measures import MEASURES, Job, Measured, measure
from pipeline.config import BenchFeaturesConfig
from pipeline.console import progress, result, result_table

LEAST_PHOTOS = 200
"""Fewer might leave none for validation."""

FEW_IMAGES = 4096
"""Enough for the tutorials' way, which is slow, and for photographs."""

Runs = dict[str, list[Measured]]
"""What each measurement gave, round by round."""


def run_bench_features(config: BenchFeaturesConfig) -> None:
    """Measure, print a table, and write `bench/features.json`."""
    device = resolve_device(config.device)
    folder = config.out / "bench"
    check_writable(folder)
    photos = str(config.photos or make_photos(folder / "photos", min(max(config.images, LEAST_PHOTOS), FEW_IMAGES)))
    precisions = list(dict.fromkeys(["fp32", resolve_precision("auto", device)]))
    sets = {"in memory": config.dataset, "JPEG files": photos}
    for dataset in sets.values():
        open_source(dataset, data_dir=config.data_dir)  # what is missing is said before minutes are spent
    jobs = {
        (kind, precision, what): Job(
            what=what,
            dataset=dataset,
            data_dir=config.data_dir,
            images=min(config.images, FEW_IMAGES) if what.startswith("textbook") else config.images,
            device=config.device,
            precision=precision,
            seconds=config.seconds,
            scratch=folder,
        )
        for kind, dataset in sets.items()
        for precision in precisions
        for what in MEASURES
        if precision == _precision(what, precision) and (what != "copy alone" or device.type == "cuda")
    }
    runs: dict[tuple[str, str, str], list[Measured]] = {name: [] for name in jobs}
    with (
        progress("measurements", config.rounds * len(jobs)) as advance,
        ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), max_tasks_per_child=1) as pool,
    ):
        for _ in range(config.rounds):
            for name, job in jobs.items():
                advance(0, ", ".join(name))
                runs[name].append(pool.submit(measure, job).result())
                advance(1, "")
    sections = [
        section(
            kind, precision, {what: runs[kind, _precision(what, precision), what] for k, _, what in runs if k == kind}
        )
        for kind in sets
        for precision in precisions
    ]
    about = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "cores": len(os.sched_getaffinity(0)),
        "machine": torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine(),
        "versions": package_versions(),
        "settings": {name: str(value) for name, value in asdict(config).items()},
        "sets": sets,
    }
    write_json(folder / "features.json", {**about, "sections": sections})
    for each in sections:
        _show(each)
    result(f"written to {folder / 'features.json'}")


def section(kind: str, precision: str, runs: Runs) -> dict[str, Any]:
    """The figures of one set of images at one precision: medians over rounds of rates, and of ratios within rounds."""
    rates = {what: [run.rate for run in rounds] for what, rounds in runs.items()}
    ceiling = [1 / sum(1 / rates[what][i] for what in CEILING[kind]) for i in range(len(rates["ours"]))]
    ratios = {
        f"ours / {' + '.join(CEILING[kind])}": _ratio(rates["ours"], ceiling),
        "ours / textbook, CSV": _ratio(rates["ours"], rates["textbook, CSV"]),
        "ours / textbook, nothing written": _ratio(rates["ours"], rates["textbook, nothing written"]),
        "time of five depths / one": _ratio(rates["ours"], rates["ours, five depths"]),
    }
    return {
        "images": kind,
        "precision": precision,
        "images_per_second": {what: median(values) for what, values in rates.items()},
        "rounds": rates,
        "peak_bytes": {what: max(run.peak_bytes for run in rounds) for what, rounds in runs.items()},
        "ratios": ratios,
    }


CEILING = {"in memory": ("forward alone",), "JPEG files": ("decode alone", "transform alone", "forward alone")}
"""What sharing the cores costs at least: one image takes the time of all of these."""


def make_photos(folder: Path, count: int) -> Path:
    """Cut `count` JPEG photographs from scikit-learn's two, in a folder for each, where they are not there yet."""
    samples = load_sample_images()
    random = np.random.default_rng(0)
    for name, pixels in zip(("temple", "flower"), samples.images, strict=True):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for number in range((count + 1) // 2):
            height, width = random.integers(224, pixels.shape[0], 2)
            top = random.integers(0, pixels.shape[0] - height + 1)
            left = random.integers(0, pixels.shape[1] - width + 1)
            path = folder / name / f"{number:05d}.jpg"
            if not path.exists():
                Image.fromarray(pixels[top : top + height, left : left + width]).save(path, quality=90)
    return folder


def _precision(what: str, precision: str) -> str:
    """The precision that `what` is measured at: tutorials know one."""
    return "fp32" if what.startswith("textbook") else precision


def _ratio(above: list[float], below: list[float]) -> float:
    return median(a / b for a, b in zip(above, below, strict=True))


def _show(figures: dict[str, Any]) -> None:
    title = f"{figures['images']}, {figures['precision']}"
    table = Table(title=title, title_justify="left", box=None, padding=(0, 2, 0, 0))
    for name in ("", "images/s", "peak GiB"):
        table.add_column(name, justify="left" if not name else "right", no_wrap=True)
    for what, rate in figures["images_per_second"].items():
        table.add_row(what, f"{rate:,.0f}", f"{figures['peak_bytes'][what] / 2**30:.2f}")
    for what, ratio in figures["ratios"].items():
        table.add_row(what, f"{ratio:.2f}", "")
    result_table(table)
