"""`treehead bench features`: extraction against the network alone and the tutorials' way, as ratios of one run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

import numpy as np
import torch
from PIL import Image
from sklearn.datasets import load_sample_images

from features.devices import resolve_device, resolve_precision
from features.sources.options import SourceOptions
from features.sources.registry import open_source
from features.storage import check_writable, write_json
from features.trunk.spec import DEPTHS
from pipeline.bench.common import measure_in_turn, ratio
from pipeline.bench.config import BenchFeaturesConfig
from pipeline.bench.measures import FIVE_DEPTHS, MEASURES, Job, Measured, measure
from pipeline.console import result, result_table
from pipeline.provenance import about

IN_MEMORY, FILES = "in memory", "JPEG files"

TEXTBOOK = "textbook"
"""How the names of the tutorials' ways begin in MEASURES."""

LEAST_PHOTOS = 200
"""Fewer might leave none for validation."""

FEW_IMAGES = 4096
"""Enough for the tutorials' way, which is slow, and for photographs."""

CEILING = {IN_MEMORY: ("forward alone",), FILES: ("decode alone", "transform alone", "forward alone")}
"""What an image costs at least. On the CPU these share the cores, so times add up; beside a GPU the slowest counts."""

Runs = dict[str, list[Measured]]
"""What each measurement gave, round by round."""

Name = tuple[str, str, str]
"""Images, precision, and what is measured."""


@dataclass(frozen=True, kw_only=True)
class Section:
    """The figures of one set of images at one precision, by what is measured.

    `images_per_second` has medians over the `rounds`, `peak_bytes` the most memory that a process held; `ratios` are
    medians of ratios within rounds.
    """

    images: str
    precision: str
    images_per_second: Mapping[str, float]
    rounds: Mapping[str, Sequence[float]]
    peak_bytes: Mapping[str, int]
    ratios: Mapping[str, float]


def run_bench_features(config: BenchFeaturesConfig) -> None:
    """Measure, print a table, and write `bench/features.json`."""
    device = resolve_device(config.device)
    folder = config.out / "bench"
    check_writable(folder)
    photos = config.photos or make_photos(folder / "photos", min(max(config.images, LEAST_PHOTOS), FEW_IMAGES))
    sets = {IN_MEMORY: config.dataset, FILES: str(photos)}
    for dataset in sets.values():
        open_source(dataset, SourceOptions(data_dir=config.data_dir))  # what is missing is said now
    precisions = list(dict.fromkeys(["fp32", resolve_precision("auto", device)]))
    runs = measure_in_turn(measure, _jobs(config, sets, precisions, device), config.rounds)
    sections = [
        section(kind, precision, _runs_of(runs, kind, precision), shared=device.type == "cpu")
        for kind in sets
        for precision in precisions
    ]
    figures = {"sets": sets, "sections": [asdict(each) for each in sections]}
    write_json(folder / "features.json", asdict(about(asdict(config), device)) | figures)
    for each in sections:
        _show(each)
    result(f"written to {folder / 'features.json'}")


def _jobs(
    config: BenchFeaturesConfig, sets: dict[str, str], precisions: list[str], device: torch.device
) -> dict[Name, Job]:
    names = [(kind, precision, what) for kind in sets for precision in precisions for what in MEASURES]
    return {
        (kind, precision, what): Job(
            what=what,
            node=DEPTHS if what == FIVE_DEPTHS else None,
            dataset=sets[kind],
            data_dir=config.data_dir,
            images=min(config.images, FEW_IMAGES) if what.startswith(TEXTBOOK) else config.images,
            device=config.device,
            precision=precision,
            seconds=config.seconds,
            scratch=config.out / "bench",
        )
        for kind, precision, what in names
        if precision == _precision(what, precision) and (what != "copy alone" or device.type == "cuda")
    }


def _runs_of(runs: dict[Name, list[Measured]], kind: str, precision: str) -> Runs:
    """What belongs to one section; the tutorials' way is the same in each."""
    return {
        what: measured
        for (images, measured_at, what), measured in runs.items()
        if images == kind and measured_at == _precision(what, precision)
    }


def _precision(what: str, precision: str) -> str:
    """The precision that `what` is measured at: tutorials know one."""
    return "fp32" if what.startswith(TEXTBOOK) else precision


def section(kind: str, precision: str, runs: Runs, *, shared: bool) -> Section:
    """The figures of one set of images at one precision.

    `shared` tells whether decoding, transform and forward share the cores (see CEILING).
    """
    rates = {what: [run.rate for run in rounds] for what, rounds in runs.items()}
    parts = zip(*(rates[what] for what in CEILING[kind]), strict=True)
    ceiling = [1 / sum(1 / rate for rate in alone) if shared else min(alone) for alone in parts]
    ratios = {
        f"ours / {(' + ' if shared else ' or ').join(CEILING[kind])}": ratio(rates["ours"], ceiling),
        "ours / textbook, CSV": ratio(rates["ours"], rates["textbook, CSV"]),
        "ours / textbook, nothing written": ratio(rates["ours"], rates["textbook, nothing written"]),
        "time of five depths / one": ratio(rates["ours"], rates[FIVE_DEPTHS]),
    }
    return Section(
        images=kind,
        precision=precision,
        images_per_second={what: median(values) for what, values in rates.items()},
        rounds=rates,
        peak_bytes={what: max(run.peak_bytes for run in rounds) for what, rounds in runs.items()},
        ratios=ratios,
    )


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


def _show(figures: Section) -> None:
    rows = [
        (what, f"{rate:,.0f}", f"{figures.peak_bytes[what] / 2**30:.2f}")
        for what, rate in figures.images_per_second.items()
    ]
    rows += [(what, f"{share:.2f}", "") for what, share in figures.ratios.items()]
    result_table(("", "images/s", "peak GiB"), rows, title=f"{figures.images}, {figures.precision}")
