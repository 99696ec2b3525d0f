"""`python -m benchmarks verdict` on a few cases: what it measures, and that it can fail."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import verdict
from benchmarks.verdict import BY_ACCURACY, GAP, Case, simulate
from tests.conftest import Run


def case(gap: float = 0.0, images: int = 2000) -> Case:
    return Case(measure=BY_ACCURACY, contenders=4, images=images, correlation=0.8, gap=gap, runs=200, seed=0)


def test_equals_are_seldom_told_apart_and_a_gap_is_found() -> None:
    equal, unequal = simulate(case()), simulate(case(GAP))
    assert equal.ours < 0.1 < unequal.ours
    assert equal.ours < equal.upper < 0.15
    assert unequal.shown < GAP
    assert unequal.ours >= max(0.9, unequal.bonferroni)


def test_a_promise_that_is_not_kept_ends_with_1(
    benchmark: Run, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verdict, "CONTENDERS", (2,))
    monkeypatch.setattr(verdict, "IMAGES", (50, 372))
    assert benchmark("verdict", "--runs", 5) == 1  # so few runs prove nothing
    assert "of 10 cases keep what is promised" in capsys.readouterr().out
    written = json.loads(Path("artifacts/bench/verdict.json").read_text())
    assert len(written) == 10
