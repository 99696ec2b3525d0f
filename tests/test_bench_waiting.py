from __future__ import annotations

import os
import subprocess
import sys

import pytest

from benchmarks import waiting
from benchmarks.waiting import SLEEPING, SPINNING, busy, measure_waiting, show_waiting, threads_that_are

POLICY = [sys.executable, "-c", "import os; print(os.environ.get('OMP_WAIT_POLICY'))"]


def test_processes_begin_with_threads_that_wait_as_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_WAIT_POLICY", "active")
    for way, policy in {SPINNING: "None", SLEEPING: "passive"}.items():
        with threads_that_are(way):
            assert subprocess.run(POLICY, capture_output=True, text=True, check=True).stdout == f"{policy}\n"
    assert os.environ["OMP_WAIT_POLICY"] == "active"


def test_the_other_process_ends_with_the_measurement() -> None:
    with busy() as process:
        assert process.poll() is None
    assert process.poll() is not None


def test_every_head_is_measured_in_four_ways(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Run:
        def __init__(self, seconds: float) -> None:
            self.seconds = seconds

    def measured(_: object, jobs: dict[tuple[str, str, str], float], rounds: int) -> dict[object, list[Run]]:
        spins = os.environ.get("OMP_WAIT_POLICY") != "passive"
        return {name: [Run(job * (1 + spins))] for name, job in jobs.items()}

    monkeypatch.setattr(waiting, "measure_in_turn", measured)
    waits = measure_waiting({"xgb": 1.0, "knn": 3.0})  # type: ignore[dict-item]
    assert (
        waits["alone"]
        == waits["beside another"]
        == {
            SPINNING: {"xgb": 2.0, "knn": 6.0},
            SLEEPING: {"xgb": 1.0, "knn": 3.0},
        }
    )
    show_waiting(waits)
    assert capsys.readouterr().out.splitlines()[-1].split() == ["all", *("8.0", "4.0", "2.00") * 2]
