"""`python -m benchmarks verdict`: how often the verdict is wrong, on simulated contenders whose skill is known."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest, norm

from benchmarks.config import BenchVerdictConfig
from features.storage import check_writable, write_json
from pipeline.console import progress, result, result_table
from pipeline.report.simultaneous import CONFIDENCE, POWER, Difference, compare_all

CONTENDERS, IMAGES, CORRELATIONS = (2, 4, 5, 8), (50, 372, 2_000, 10_000), (0.5, 0.8)

ACCURACY = 0.9

GAP = 0.04
"""By how much one contender is worse where power is measured, in accuracy."""

AT_MOST = 0.06
"""The most that the 95 % upper bound may be of how often equal contenders are told apart, which is to be 5 %."""

BY_ACCURACY, BY_LOG_LOSS = "accuracy", "log-loss"


@dataclass(frozen=True, kw_only=True)
class Case:
    """Contenders on images: `gap` is by how much the last one is worse; `runs` simulated comparisons from `seed`."""

    measure: str
    contenders: int
    images: int
    correlation: float
    gap: float
    runs: int
    seed: int


@dataclass(frozen=True, kw_only=True)
class Found:
    """In what share of the runs a contender was ruled out, with our intervals and with Bonferroni's.

    `upper` is the 95 % upper bound of ours, `shown` the mean difference that so many images are said to show.
    """

    case: Case
    ours: float
    bonferroni: float
    upper: float
    shown: float


def run_bench_verdict(config: BenchVerdictConfig) -> None:
    """Simulate, print tables, write `bench/verdict.json`, and exit with 1 where a promise is not kept."""
    folder = config.out / "bench"
    check_writable(folder)
    cases = _cases(config.runs, config.seed)
    with progress("simulated comparisons", len(cases)) as advance, ProcessPoolExecutor() as pool:
        found = []
        for each in pool.map(simulate, cases):
            found.append(each)
            advance(1, "")
    write_json(folder / "verdict.json", [asdict(each) for each in found])
    equal, unequal = ([each for each in found if bool(each.case.gap) is gap] for gap in (False, True))
    _show_equal(equal)
    _show_unequal(unequal)
    broken = [each for each in equal if each.upper > AT_MOST] + [each for each in unequal if not keeps_power(each)]
    result(f"{len(found) - len(broken)} of {len(found)} cases keep what is promised")
    if broken:
        sys.exit(1)


def _cases(runs: int, seed: int) -> list[Case]:
    grid = list(product((BY_ACCURACY, BY_LOG_LOSS), CONTENDERS, IMAGES, CORRELATIONS))
    cases = [(measure, k, n, rho, 0.0) for measure, k, n, rho in grid]
    cases += [(BY_ACCURACY, k, n, rho, GAP) for k, n, rho in product(CONTENDERS, IMAGES[1:], CORRELATIONS)]
    return [
        Case(measure=measure, contenders=k, images=n, correlation=rho, gap=gap, runs=runs, seed=seed + number)
        for number, (measure, k, n, rho, gap) in enumerate(cases)
    ]


def simulate(case: Case) -> Found:
    """Do one case."""
    random = np.random.default_rng(case.seed)
    names = [str(number) for number in range(case.contenders)]
    ours, bonferroni, shown = 0, 0, []
    for _ in range(case.runs):
        found = compare_all(names, _scores(case, random))
        judged = [pair for pair in found if not case.gap or pair.second == names[-1]]
        ours += any(pair.certain for pair in judged)
        bonferroni += any(_certain_by_bonferroni(pair, len(found)) for pair in judged)
        shown.append(np.mean([pair.shown for pair in judged]))
    bound = binomtest(ours, case.runs).proportion_ci(CONFIDENCE, method="exact").high
    return Found(
        case=case,
        ours=ours / case.runs,
        bonferroni=bonferroni / case.runs,
        upper=float(bound),
        shown=float(np.mean(shown)),
    )


def _scores(case: Case, random: np.random.Generator) -> NDArray[np.float64] | NDArray[np.bool_]:
    """(n, k): which images are right, or their log-likelihood, of contenders that find the same images hard."""
    n, k, rho = case.images, case.contenders, case.correlation
    ease = np.sqrt(rho) * random.normal(size=(n, 1)) + np.sqrt(1 - rho) * random.normal(size=(n, k))
    ease += norm.ppf(ACCURACY)
    ease[:, -1] -= norm.ppf(ACCURACY) - norm.ppf(ACCURACY - case.gap)
    if case.measure == BY_ACCURACY:
        right: NDArray[np.bool_] = ease > 0
        return right
    likely: NDArray[np.float64] = -np.logaddexp(0, -2 * ease)
    return likely


def _certain_by_bonferroni(pair: Difference, pairs: int) -> bool:
    """Whether the pair's own interval, at a level that all pairs share evenly, leaves out zero."""
    margin, centre = (pair.high - pair.low) / 2, (pair.high + pair.low) / 2
    error = (pair.shown - margin) / float(norm.ppf(POWER))
    return abs(centre) > error * float(norm.ppf(1 - (1 - CONFIDENCE) / 2 / pairs))


def keeps_power(found: Found) -> bool:
    """Whether a gap is found where it is said that it would be, and no less often than Bonferroni finds it."""
    told = found.shown > GAP or found.ours >= POWER
    return told and found.ours >= found.bonferroni


def _show_equal(found: Sequence[Found]) -> None:
    rows = [
        (
            each.case.measure,
            str(each.case.contenders),
            f"{each.case.images:,}",
            f"{each.case.correlation}",
            f"{100 * each.ours:.1f}",
            f"{100 * each.upper:.1f}",
        )
        for each in found
    ]
    names = ("measure", "contenders", "images", "correlation", "told apart %", "at most %")
    result_table(names, rows, title="equal contenders")


def _show_unequal(found: Sequence[Found]) -> None:
    rows = [
        (
            str(each.case.contenders),
            f"{each.case.images:,}",
            f"{each.case.correlation}",
            f"{100 * each.shown:.1f}",
            f"{100 * each.ours:.1f}",
            f"{100 * each.bonferroni:.1f}",
        )
        for each in found
    ]
    names = ("contenders", "images", "correlation", "said to show", "found %", "by Bonferroni %")
    result_table(names, rows, title=f"one contender {100 * GAP:.0f} points worse than the others, which are equal")
