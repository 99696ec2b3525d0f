"""What the benchmarks share: each measurement in a process of its own."""

from __future__ import annotations

import multiprocessing
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from statistics import median
from typing import TypeVar

from pipeline.console import progress, remark
from pipeline.errors import PipelineError

Name = TypeVar("Name", bound=tuple[str, ...])
Job = TypeVar("Job")
Measured = TypeVar("Measured")


def measure_in_turn(
    measure: Callable[[Job], Measured], jobs: Mapping[Name, Job], rounds: int
) -> dict[Name, list[Measured]]:
    """Every job once a round, each in a new process, so that none profits from another's memory or warmth.

    Raises PipelineError for one whose process is killed, which is what systems do when memory runs out.
    """
    runs: dict[Name, list[Measured]] = {name: [] for name in jobs}
    with (
        progress("measurements", rounds * len(jobs)) as advance,
        ProcessPoolExecutor(
            1,
            multiprocessing.get_context("spawn"),
            initializer=warnings.simplefilter,  # libraries' advice to programmers is of no use here
            initargs=("ignore",),
            max_tasks_per_child=1,
        ) as pool,
    ):
        for _ in range(rounds):
            for name, job in jobs.items():
                said = ", ".join(name)
                advance(0, said)
                start = time.perf_counter()
                try:
                    runs[name].append(pool.submit(measure, job).result())
                except BrokenProcessPool as error:
                    raise PipelineError(
                        f"the process that measured {said} was killed, as when memory runs out: measure fewer images"
                    ) from error
                remark(f"measured {said} in {time.perf_counter() - start:.0f} s")
                advance(1, "")
    return runs


def ratio(above: Sequence[float], below: Sequence[float]) -> float:
    """The median over rounds of one rate as a share of another."""
    return median(a / b for a, b in zip(above, below, strict=True))
