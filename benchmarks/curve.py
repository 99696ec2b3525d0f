"""`python -m benchmarks curve`: whether label curves foretell what comes of twice the images.

Half of the images that may be learnt from are taken for all, and then half of these. What their curve foretells of
twice as many is held against what comes of a head that learns from those, on the same test images.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import groupby
from pathlib import Path

import numpy as np

from benchmarks.config import BenchCurveConfig, on_few
from features.devices import resolve_device
from features.storage import check_writable, write_json
from features.table.folded import FoldedTable
from models.columns.workspace import Workspace
from models.heads.head import Head
from pipeline.console import result, result_table
from pipeline.provenance import about
from pipeline.report.curve import Gain
from pipeline.stages.curve import kept_in, measure_curve, part_of, prepare, scores_of, shares_of
from pipeline.stages.opened import open_images

HALVINGS = 2

AT_LEAST = 0.9
"""The share of forecasts that is to hold."""


@dataclass(frozen=True, kw_only=True)
class Measure:
    """What was foretold to be gained, `low` to `high`, and what came, more is better: points or nats."""

    foretold: float
    low: float
    high: float
    came: float

    @property
    def holds(self) -> bool:
        """Whether what came is in the band, but for the rounding of float32."""
        return self.low - 1e-6 <= self.came <= self.high + 1e-6


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """What was foretold of twice the `images`, in accuracy (points) and in log-loss (nats)."""

    dataset: str
    head: str
    seed: int
    images: int
    accuracy: Measure
    log_loss: Measure


def run_bench_curve(datasets: list[str], config: BenchCurveConfig) -> None:
    """Measure, print a table, write `bench/curve.json`, and exit with 1 where too few forecasts hold."""
    config = replace(config, run=on_few(config.run))
    folder = config.run.out / "bench"
    check_writable(folder)
    for dataset in datasets:  # what is missing is said before minutes are spent
        open_images(dataset, config.run)
    found: list[Forecast] = []
    for dataset in datasets:
        found += _of_set(dataset, config)
    conditions = asdict(about(asdict(config), resolve_device(config.run.device)))
    write_json(folder / "curve.json", conditions | {"forecasts": [asdict(each) for each in found]})
    rows = [_row(*names, list(each)) for names, each in groupby(found, lambda each: (each.dataset, each.head))]
    names = ("set", "head", "forecasts", "hold %", "points wide", "off by", "hold %", "nats wide", "off by")
    result_table(names, [*rows, _row("all", "", found)], words=2, title="twice the images, foretold")
    result(f"written to {folder / 'curve.json'}")
    if not found or min(_share(found, "accuracy"), _share(found, "log_loss")) < AT_LEAST:
        sys.exit(1)


def _of_set(dataset: str, config: BenchCurveConfig) -> list[Forecast]:
    heads, table = prepare(config.of(dataset))
    seeds = range(config.seeds)
    return [each for head in heads for seed in seeds for each in _of(head, table, seed, config.run.out)]


def _of(head: Head, table: FoldedTable, seed: int, out: Path) -> Iterator[Forecast]:
    """A forecast for each time that the images of `table` are halved, but of those that are too few."""
    larger = table
    for halving in range(HALVINGS):
        smaller = part_of(larger, shares_of(larger, np.random.default_rng([seed, halving])), 0.5)
        curve, (accuracy, log_loss) = measure_curve(head, smaller, out), _came(head, larger, out)
        if curve.gain:
            now = curve.points[-1]
            yield Forecast(
                dataset=table.dataset,
                head=head.name,
                seed=seed,
                images=now.images,
                accuracy=_measure(curve.gain, "accuracy", accuracy - now.accuracy, 100),
                log_loss=_measure(curve.gain, "log_loss", now.log_loss - log_loss, 1),
            )
        larger = smaller


def _came(head: Head, table: FoldedTable, out: Path) -> tuple[float, float]:
    """Accuracy and log-loss on the test rows once `head` has learnt from all others."""
    with Workspace() as workspace:
        scores = scores_of(head, table, table.read("test"), workspace, kept_in(head, table, out))
    return 1 - float(scores["wrong"].mean()), float(scores["loss"].mean(dtype=float))


def _measure(gain: Gain, what: str, came: float, scale: float) -> Measure:
    """Of a gain as a share or in nats, times `scale`."""
    foretold, low, high = (scale * getattr(gain, f"{what}{end}") for end in ("", "_low", "_high"))
    return Measure(foretold=foretold, low=low, high=high, came=scale * came)


def _row(dataset: str, head: str, found: Sequence[Forecast]) -> tuple[str, ...]:
    return (dataset, head, str(len(found)), *_cells(found, "accuracy", 1), *_cells(found, "log_loss", 3))


def _cells(found: Sequence[Forecast], what: str, digits: int) -> tuple[str, str, str]:
    """How many hold, the median width of their bands, and the mean distance from what came."""
    measures: list[Measure] = [getattr(each, what) for each in found]
    wide = np.median([each.high - each.low for each in measures])
    off = np.mean([abs(each.foretold - each.came) for each in measures])
    return f"{100 * _share(found, what):.0f}", f"{wide:.{digits}f}", f"{off:.{digits}f}"


def _share(found: Sequence[Forecast], what: str) -> float:
    return float(np.mean([getattr(each, what).holds for each in found]))
