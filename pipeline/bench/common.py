"""What the benchmarks share: each measurement in a process of its own, and where and with what it was made."""

from __future__ import annotations

import multiprocessing
import os
import platform
import time
import warnings
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from datetime import UTC, datetime
from typing import Any, TypeVar

import torch

from models.persist import package_versions
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
            1, multiprocessing.get_context("spawn"), initializer=_ignore_advice, max_tasks_per_child=1
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


def about(settings: Mapping[str, object], device: torch.device) -> dict[str, Any]:
    """When, where and with what a benchmark was run."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "cores": len(os.sched_getaffinity(0)),
        "machine": torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine(),
        "versions": package_versions(),
        "settings": {name: str(value) for name, value in settings.items()},
    }


def _ignore_advice() -> None:
    """Libraries' advice to programmers is of no use to who runs a benchmark."""
    warnings.simplefilter("ignore")
