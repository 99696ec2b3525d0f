"""`treehead bench features`: how near extraction comes to what the machine can do, as ratios of one run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

import numpy as np
from PIL import Image
from sklearn.datasets import load_sample_images

from features.devices import resolve_device
from features.sources.options import SourceOptions
from features.sources.registry import open_source
from features.storage import check_writable, write_json
from features.trunk.loaded import open_backbone
from pipeline.bench.common import measure_in_turn, ratio
from pipeline.bench.config import BenchFeaturesConfig
from pipeline.bench.measures import (
    EAGER,
    FILES,
    FORWARD,
    FP32,
    IN_MEMORY,
    LIMIT,
    OURS,
    PARTS,
    TEXTBOOK,
    Job,
    Measured,
    measure,
)
from pipeline.console import result, result_table
from pipeline.errors import PipelineError
from pipeline.provenance import about

LEAST_PHOTOS = 200
"""Fewer might leave none for validation."""

MOST_PHOTOS = 4096

FASTEST, ALL = "fastest forward", "all parts alone"


@dataclass(frozen=True, kw_only=True)
class Figures:
    """What was measured of one network.

    `images_per_second` has medians over `rounds`; `ratios` are medians of ratios within rounds;
    `fastest` names the fastest forward; `peak_bytes` the most memory that ours held.
    """

    network: str
    flops: int
    fastest: str
    images_per_second: Mapping[str, float]
    rounds: Mapping[str, Sequence[float]]
    ratios: Mapping[str, float]
    peak_bytes: int


def run_bench_features(config: BenchFeaturesConfig) -> None:
    """Measure, print tables, and write `bench/features.json`."""
    device = resolve_device(config.device)
    folder = config.out / "bench"
    check_writable(folder)
    if not config.network_names:
        raise PipelineError(f"`networks={config.networks}` names none: give one or more, separated by commas")
    for network in config.network_names:
        open_backbone(network, 0)  # what is not known is said now
    photos = config.photos or make_photos(folder / "photos", min(max(config.images, LEAST_PHOTOS), MOST_PHOTOS))
    sets = {FILES: str(photos), IN_MEMORY: config.dataset}
    for dataset in sets.values():
        open_source(dataset, SourceOptions(data_dir=config.data_dir))
    jobs = {(network,): Job(network=network, sets=sets, config=config) for network in config.network_names}
    runs = measure_in_turn(measure, jobs, config.rounds)
    measured = [figures(network, rounds, shared=device.type == "cpu") for (network,), rounds in runs.items()]
    content = {"sets": sets, "networks": [asdict(each) for each in measured]}
    write_json(folder / "features.json", asdict(about(asdict(config), device)) | content)
    _show(measured)
    result(f"written to {folder / 'features.json'}")


def figures(network: str, rounds: Sequence[Measured], *, shared: bool) -> Figures:
    """The figures of one network.

    `shared` tells whether decoding, transform and forward share the cores, as on the CPU, so that their times add up;
    beside a GPU the slowest counts.
    """
    rates = {what: [run.rates[what] for run in rounds] for what in rounds[0].rates}
    medians = {what: median(values) for what, values in rates.items()}
    fastest = max((what for what in rates if what.startswith(FORWARD)), key=medians.__getitem__)
    limit = f"{LIMIT}{fastest.removeprefix(FORWARD)}"
    parts = zip(*(rates[what] for what in (fastest, *PARTS) if what in rates), strict=True)
    pairs = {
        f"{OURS}{FILES} / {FASTEST}": (f"{OURS}{FILES}", fastest),
        f"{OURS}{IN_MEMORY} / {FASTEST}": (f"{OURS}{IN_MEMORY}", fastest),
        f"{OURS}{FILES} / {EAGER}": (f"{OURS}{FILES}", f"{FORWARD}{EAGER}"),
        f"{OURS}{FILES} / textbook": (f"{OURS}{FILES}", f"{TEXTBOOK}{FILES}"),
        # What names no precision computes in fp32.
        f"{FASTEST} / limit": (fastest, limit if limit in rates else f"{LIMIT}{FP32}"),
    }
    ratios = {name: ratio(rates[above], rates[below]) for name, (above, below) in pairs.items() if below in rates}
    ratios[f"{OURS}{FILES} / {ALL}"] = ratio(rates[f"{OURS}{FILES}"], [_together(alone, shared) for alone in parts])
    return Figures(
        network=network,
        flops=rounds[0].flops,
        fastest=fastest,
        images_per_second=medians,
        rounds=rates,
        ratios=ratios,
        peak_bytes=max(run.peak_bytes for run in rounds),
    )


def _together(rates: Sequence[float], shared: bool) -> float:
    """The rate of what has these when each is alone."""
    return 1 / sum(1 / rate for rate in rates) if shared else min(rates)


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


def _show(measured: Sequence[Figures]) -> None:
    """A column for each network; nothing stands where a network has not been measured so."""
    rows = [("GFLOP an image", *(f"{each.flops / 1e9:.1f}" for each in measured))]
    rows += _rows([each.images_per_second for each in measured], "{:,.0f}")
    rows += _rows([each.ratios for each in measured], "{:.2f}")
    rows.append(("peak GiB", *(f"{each.peak_bytes / 2**30:.2f}" for each in measured)))
    result_table(("images a second", *(each.network for each in measured)), rows)


def _rows(columns: Sequence[Mapping[str, float]], shown: str) -> list[tuple[str, ...]]:
    names = dict.fromkeys(name for column in columns for name in column)
    return [(name, *(shown.format(column[name]) if name in column else "" for column in columns)) for name in names]
