"""`python -m benchmarks verdict`: how often the verdict is wrong, on simulated contenders whose skill is known."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from itertools import product

import numpy as np
from scipy.stats import binom, binomtest

from benchmarks.config import BenchVerdictConfig
from benchmarks.simulated import FOLDS, GAP, Case, Counted, Counts, Job, count, no_counts, simulate
from features.storage import check_writable, write_json
from pipeline.console import progress, result, result_table
from pipeline.report.simultaneous import CONFIDENCE, POWER
from pipeline.report.statistics import wilson

IMAGES, CORRELATIONS = (50, 372, 2_000, 10_000), (0.5, 0.8)

FOLDED = {50: 2, 372: 10, 2_000: 10}
"""With so many images contenders are also tested out of folds, in one of so many runs, as that takes longer; in more
where the interval covers nearly as little as it may."""

ACCURACIES, AROUND = (0.8, 0.9, 0.97), 0.02
"""Accuracies whose interval is looked at, with those so near: how often it covers jumps from each to the next."""

AT_MOST, OFF = 0.06, 0.01
"""What the 95 % upper bound of a rate may be that is to be 5 % or less, and how far a coverage may be off."""

CHUNK = 250
"""Runs that a process does at once."""


@dataclass(frozen=True, kw_only=True)
class Found:
    """In what share of the runs a contender was ruled out, by us and by Bonferroni, and the 95 % upper bound of ours.

    `shown` is the mean difference that so many images are said to show, `covered` the share of accuracies that were in
    their interval, None where that is not measured.
    """

    runs: int
    ours: float
    upper: float
    bonferroni: float
    shown: float
    covered: float | None

    @classmethod
    def of(cls, counts: Counted) -> Found:
        """What was counted, as shares."""
        runs, ours = int(counts["runs"]), int(counts["ours"])
        return cls(
            runs=runs,
            ours=ours / runs,
            upper=float(binomtest(ours, runs).proportion_ci(CONFIDENCE, method="exact").high),
            bonferroni=counts["bonferroni"] / runs,
            shown=counts["shown"] / runs,
            covered=counts["covered"] / counts["intervals"] if "intervals" in counts else None,
        )


Line = tuple[tuple[str, ...], bool]
"""Figures, and whether they keep what is promised."""


def run_bench_verdict(config: BenchVerdictConfig) -> None:
    """Simulate, print tables, write `bench/verdict.json`, and exit with 1 where a line does not keep its promise."""
    folder = config.out / "bench"
    check_writable(folder)
    counts = _simulated(config)
    found = {case: Found.of(counts[case]) for case in sorted(counts, key=lambda case: tuple(asdict(case).values()))}
    covered = {each: coverage(*each) for each in product(IMAGES, ACCURACIES)}
    write_json(
        folder / "verdict.json",
        {
            "simulated": [asdict(case) | asdict(each) for case, each in found.items()],
            "coverage": [{"images": n, "accuracy": near, "covered": share} for (n, near), share in covered.items()],
        },
    )
    kept = [*_show_coverage(covered), *_show_folds(found), *_show_equal(found), *_show_unequal(found)]
    result(f"{sum(kept)} of {len(kept)} lines keep what is promised, with {config.runs:,} runs a case")
    if not all(kept):
        sys.exit(1)


def _simulated(config: BenchVerdictConfig) -> Counts:
    """All cases, whose runs are dealt out in chunks to as many processes as there are processors."""
    asked = [(n, rho, 0, config.runs) for n, rho in product(IMAGES[::-1], CORRELATIONS)]
    asked += [(n, 0.5, FOLDS, max(1, config.runs // one_of)) for n, one_of in FOLDED.items()]
    jobs = [
        Job(images=n, correlation=rho, folds=folds, runs=min(CHUNK, runs - start), seed=(config.seed, number, start))
        for number, (n, rho, folds, runs) in enumerate(asked)
        for start in range(0, runs, CHUNK)
    ]
    counts = no_counts()
    with progress("simulated comparisons", sum(job.runs for job in jobs)) as advance, ProcessPoolExecutor() as pool:
        for job, each in zip(jobs, pool.map(simulate, jobs), strict=True):
            for case, counted in each.items():
                count(counts[case], counted)
            advance(job.runs, "")
    return counts


def coverage(images: int, accuracy: float) -> float:
    """How often the interval of an accuracy holds it, the mean over those AROUND, by the binomial distribution."""
    near = np.linspace(accuracy - AROUND, min(accuracy + AROUND, 1), 101)
    ends = np.array(binom.ppf([1e-9, 1 - 1e-9], images, near[[0, -1]]))  # beyond, nothing happens
    right = np.arange(ends[0], ends[1] + 1)
    low, high = np.array([wilson(number / images, images) for number in right]).T
    inside = (low <= near[:, None]) & (near[:, None] <= high)
    return float((binom.pmf(right, images, near[:, None]) * inside).sum(axis=1).mean())


def keeps_level(found: Found) -> bool:
    """Whether equal contenders are told apart as seldom as is said."""
    return found.ours <= 1 - CONFIDENCE + 1e-9 and found.upper <= AT_MOST


def keeps_power(found: Found) -> bool:
    """Whether a gap is found where it is said that it would be, and no less often than Bonferroni finds it."""
    return (found.shown > GAP or found.ours >= POWER) and found.ours >= found.bonferroni


def covers(share: float | None) -> bool:
    """Whether intervals hold what they should as often as they say."""
    return share is None or abs(share - CONFIDENCE) <= OFF


def _show(title: str, names: tuple[str, ...], lines: Sequence[Line]) -> list[bool]:
    rows = [(*figures, "" if kept else "!") for figures, kept in lines]
    result_table((*names, ""), rows, title=title)
    return [kept for _, kept in lines]


def _show_coverage(covered: dict[tuple[int, float], float]) -> list[bool]:
    lines = [((f"{n:,}", f"{near}", _percent(share)), covers(share)) for (n, near), share in covered.items()]
    return _show("the accuracy's 95 % interval", ("images", "accuracy", "holds it %"), lines)


def _show_folds(found: dict[Case, Found]) -> list[bool]:
    lines = [
        (
            (
                f"{case.images:,}",
                case.measure,
                _percent(each.ours),
                _percent(each.upper),
                "" if each.covered is None else _percent(each.covered),
            ),
            keeps_level(each) and covers(each.covered),
        )
        for case, each in found.items()
        if case.folds
    ]
    names = ("images", "measure", "told apart %", "at most %", "accuracy in its interval %")
    return _show(f"equal learners out of {FOLDS} folds", names, lines)


def _show_equal(found: dict[Case, Found]) -> list[bool]:
    lines = [
        ((*_of(case), case.measure, _percent(each.ours), _percent(each.upper)), keeps_level(each))
        for case, each in found.items()
        if not case.folds and not case.gap
    ]
    return _show("equal contenders", (*_OF, "measure", "told apart %", "at most %"), lines)


def _show_unequal(found: dict[Case, Found]) -> list[bool]:
    lines = [
        (
            (*_of(case), f"{100 * each.shown:.1f}", _percent(each.ours), _percent(each.bonferroni)),
            keeps_power(each),
        )
        for case, each in found.items()
        if case.gap
    ]
    title = f"one contender {100 * GAP:.0f} points worse than the others, which are equal"
    return _show(title, (*_OF, "said to show", "found %", "by Bonferroni %"), lines)


_OF = ("contenders", "images", "correlation")


def _of(case: Case) -> tuple[str, ...]:
    return str(case.contenders), f"{case.images:,}", f"{case.correlation}"


def _percent(share: float) -> str:
    return f"{100 * share:.1f}"
