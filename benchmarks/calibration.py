"""`python -m benchmarks calibration`: what each head's probabilities are worth on test images of several sets."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar

from benchmarks.config import BenchCalibrationConfig, on_few
from features.devices import resolve_device
from features.storage import check_writable, write_json
from models.calibration import sharpened
from models.heads.head import Probabilities
from pipeline.console import remark, result, result_table
from pipeline.provenance import about
from pipeline.report.reliability import COVERAGE, conformal, reliability
from pipeline.report.statistics import log_likelihoods, score
from pipeline.stages.compare import prepare
from pipeline.stages.opened import open_images

DRAWS = 20
"""Of conformal sets, each halved many times."""

OFF, ENOUGH = 0.01, 300
"""How far coverage may be off, with so many test images or more."""

WORSE = 1.01
"""What log-loss may be multiplied by where probabilities are calibrated, at most."""

OVER_BEST, ENOUGH_WRONG = 1.1, 10
"""What the log-loss may be of the least, at most, where so many images are wrong: of fewer, the least is their luck."""


@dataclass(frozen=True, kw_only=True)
class Figures:
    """A head on the test images of a set.

    `error` is the calibration error with its interval, `coverage` how often conformal sets hold the right class, of
    which they have `classes`. `over_best` is the log-loss as a multiple of that of the same probabilities at the
    `temperature` that suits these very images best: None where all are right, so that none is best. `before` is the
    log-loss without calibration, None of what is not calibrated; `wrong` counts the images that are.
    """

    dataset: str
    head: str
    images: int
    accuracy: float
    log_loss: float
    before: float | None
    wrong: int
    error: float
    error_low: float
    error_high: float
    coverage: float | None
    classes: float | None
    temperature: float | None
    over_best: float | None


def run_bench_calibration(datasets: list[str], config: BenchCalibrationConfig) -> None:
    """Measure, print a table, write `bench/calibration.json`; exit with 1 where sets of enough images miss coverage."""
    config = replace(config, run=on_few(config.run))
    device, folder = resolve_device(config.run.device), config.run.out / "bench"
    check_writable(folder)
    for dataset in datasets:  # what is missing is said before minutes are spent
        open_images(dataset, config.run)
    found = [each for dataset in datasets for each in _measure(dataset, config)]
    figures = {"heads": [asdict(each) for each in found]}
    write_json(folder / "calibration.json", asdict(about(asdict(config), device)) | figures)
    _show(found)
    broken = [line for each in found for line in _broken(each)]
    for line in broken:
        result(line)
    if broken:
        sys.exit(1)


def _measure(dataset: str, config: BenchCalibrationConfig) -> list[Figures]:
    remark(dataset)
    contest = prepare(config.of(dataset))
    test = contest.table.read("test")
    found = []
    for name, item in contest.trained.items():
        said, sharpness = item.head.predict_proba(test.x), item.head.learned_.get("sharpness")
        before = score(sharpened(said, 1 / sharpness), test.y).log_loss if sharpness else None
        found.append(measure(contest.table.dataset, name, said, test.y, before))
    return found


def measure(
    dataset: str, head: str, probabilities: Probabilities, y: NDArray[np.int32], before: float | None = None
) -> Figures:
    """What (n, k) probabilities of n test images (n,) are worth."""
    scores, trusted = score(probabilities, y), reliability(probabilities, y)
    sets = [each for seed in range(DRAWS) if (each := conformal(probabilities, y, seed=seed))]
    temperature = best_temperature(probabilities, y)
    return Figures(
        dataset=dataset,
        head=head,
        images=len(y),
        accuracy=scores.accuracy,
        log_loss=scores.log_loss,
        before=before,
        wrong=int((probabilities.argmax(axis=1) != y).sum()),
        error=trusted.error,
        error_low=trusted.error_low,
        error_high=trusted.error_high,
        coverage=float(np.mean([each.coverage for each in sets])) if sets else None,
        classes=float(np.mean([each.classes for each in sets])) if sets else None,
        temperature=temperature,
        over_best=temperature and scores.log_loss / _log_loss_at(np.log(temperature), probabilities, y),
    )


def _broken(figures: Figures) -> Iterator[str]:
    """What is promised and does not hold, in a line each."""
    of = f"{figures.head} on {figures.dataset}"
    if figures.images >= ENOUGH and abs((figures.coverage or 0) - COVERAGE) > OFF:
        yield f"{of}: sets cover {figures.coverage or 0:.1%}"
    if figures.before and figures.log_loss > WORSE * figures.before:
        yield f"{of}: calibration makes a log-loss of {figures.log_loss:.4f} out of {figures.before:.4f}"
    if figures.wrong >= ENOUGH_WRONG and (figures.over_best or 0) > OVER_BEST:
        yield f"{of}: the log-loss is {figures.over_best:.2f} times the least"


def best_temperature(probabilities: Probabilities, y: NDArray[np.int32]) -> float | None:
    """What logits have to be divided by for the lowest log-loss on these images; None where all are right."""
    if (probabilities.argmax(axis=1) == y).all():
        return None
    found = minimize_scalar(_log_loss_at, bounds=(-4, 4), args=(probabilities, y), method="bounded")
    return float(np.exp(found.x))


def _log_loss_at(log_temperature: float, probabilities: Probabilities, y: NDArray[np.int32]) -> float:
    logits = np.log(np.maximum(probabilities.astype(np.float64), np.finfo(np.float32).tiny)) / np.exp(log_temperature)
    shares = np.exp(logits - logits.max(axis=1, keepdims=True))
    return -float(log_likelihoods((shares / shares.sum(axis=1, keepdims=True)).astype(np.float32), y).mean())


def _show(found: list[Figures]) -> None:
    names = (
        "images",
        "head",
        "accuracy %",
        "before",
        "log-loss",
        "of best",
        "error %",
        "95 % interval",
        "covered %",
        "classes",
    )
    rows = [
        (
            f"{each.dataset}, {each.images:,}",
            each.head,
            f"{100 * each.accuracy:.2f}",
            "–" if each.before is None else f"{each.before:.4f}",
            f"{each.log_loss:.4f}",
            f"{each.over_best:.3f}" if each.over_best else "all right",
            f"{100 * each.error:.1f}",
            f"{100 * each.error_low:.1f}–{100 * each.error_high:.1f}",
            "–" if each.coverage is None else f"{100 * each.coverage:.1f}",
            "–" if each.classes is None else f"{each.classes:.2f}",
        )
        for each in found
    ]
    result_table(names, rows, title="probabilities on test images")
