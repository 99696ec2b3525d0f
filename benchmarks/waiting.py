"""What it costs that threads wait busily: our heads' seconds with such threads and with sleeping ones.

Alone on the machine, and beside a process that never rests. Nothing is said of losses: these are the same.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext

from benchmarks.contenders import HeadJob, measure
from pipeline.bench.common import measure_in_turn
from pipeline.console import result_table
from pipeline.surroundings import PASSIVE

SPINNING, SLEEPING = "spinning", "sleeping"

Waits = Mapping[str, Mapping[str, Mapping[str, float]]]
"""Seconds to fit, by place, then by how threads wait, then by head."""


@contextmanager
def busy() -> Iterator[subprocess.Popen[bytes]]:
    """Keep a core busy with another process."""
    process = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        yield process
    finally:
        process.kill()
        process.wait()


PLACES: Mapping[str, Callable[[], AbstractContextManager[object]]] = {"alone": nullcontext, "beside another": busy}


def measure_waiting(jobs: Mapping[str, HeadJob]) -> Waits:
    """Do each head's job in all four ways, each in a process of its own that begins with the settings of one way."""
    waits: dict[str, dict[str, dict[str, float]]] = {}
    for place, beside in PLACES.items():
        for way in (SPINNING, SLEEPING):
            named = {(place, way, head): job for head, job in jobs.items()}
            with beside(), threads_that_are(way):
                runs = measure_in_turn(measure, named, 1)
            waits.setdefault(place, {})[way] = {head: run.seconds for (*_, head), (run,) in runs.items()}
    return waits


def show_waiting(waits: Waits) -> None:
    """Print a row a head: seconds, and how many times as long it takes with threads that spin."""
    names = [name for place in waits for name in (f"{place}: {SPINNING} s", f"{SLEEPING} s", "ratio")]
    heads = next(iter(next(iter(waits.values())).values()))
    rows = [(head, *(cell for ways in waits.values() for cell in _cells(ways, [head]))) for head in heads]
    rows.append(("all", *(cell for ways in waits.values() for cell in _cells(ways, list(heads)))))
    result_table(("", *names), rows, title="how threads wait")


def _cells(ways: Mapping[str, Mapping[str, float]], heads: list[str]) -> tuple[str, str, str]:
    spinning, sleeping = (sum(ways[way][head] for head in heads) for way in (SPINNING, SLEEPING))
    return f"{spinning:.1f}", f"{sleeping:.1f}", f"{spinning / sleeping:.2f}"


@contextmanager
def threads_that_are(way: str) -> Iterator[None]:
    """Let processes that are started now have threads that wait so: SPINNING is the libraries' default."""
    before = dict(os.environ)
    for name in PASSIVE:
        os.environ.pop(name, None)
    if way == SLEEPING:
        os.environ.update(PASSIVE)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
