"""`python -m benchmarks verdict` on a few cases: what it measures, and that it can fail."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks import verdict
from benchmarks.simulated import BY_ACCURACY, BY_LOG_LOSS, CONTENDERS, GAP, Case, Job, simulate
from benchmarks.verdict import Found, coverage, covers, keeps_level, keeps_power
from tests.conftest import Run


def found(images: int, runs: int, folds: int = 0) -> dict[Case, Found]:
    job = Job(images=images, correlation=0.8, folds=folds, runs=runs, seed=(0,))
    return {case: Found.of(counts) for case, counts in simulate(job).items()}


def test_equals_are_seldom_told_apart_and_a_gap_is_found() -> None:
    shares = found(2000, 100)
    assert len(shares) == 3 * len(CONTENDERS)
    for k in CONTENDERS:
        for measure in (BY_ACCURACY, BY_LOG_LOSS):
            equal = shares[Case(measure=measure, contenders=k, images=2000, correlation=0.8)]
            assert equal.ours < 0.15
            assert equal.ours < equal.upper < 0.25
            assert equal.covered is None
        unequal = shares[Case(measure=BY_ACCURACY, contenders=k, images=2000, correlation=0.8, gap=GAP)]
        assert unequal.shown < GAP
        assert unequal.ours >= max(0.9, unequal.bonferroni)
        assert keeps_power(unequal)


def test_learners_out_of_folds_are_seldom_told_apart_and_their_accuracy_is_known() -> None:
    shares = found(100, 40, folds=5)
    by_accuracy = shares[Case(measure=BY_ACCURACY, contenders=4, images=100, correlation=0.8, folds=5)]
    by_log_loss = shares[Case(measure=BY_LOG_LOSS, contenders=4, images=100, correlation=0.8, folds=5)]
    assert max(by_accuracy.ours, by_log_loss.ours) < 0.15
    assert by_accuracy.covered == pytest.approx(0.95, abs=0.06)
    assert by_log_loss.covered is None


def test_chance_is_the_same_wherever_it_is_drawn() -> None:
    assert found(50, 5) == found(50, 5)


def test_the_interval_of_an_accuracy_is_measured() -> None:
    assert coverage(372, 0.9) == pytest.approx(0.9503, abs=1e-3)
    assert covers(0.959)
    assert not covers(0.93)


def test_a_rate_that_is_too_high_or_not_known_well_enough_breaks_the_promise() -> None:
    usual: dict[str, Any] = {"runs": 1000, "bonferroni": 0.0, "shown": 0.01, "covered": None}
    assert keeps_level(Found(ours=0.05, upper=0.055, **usual))
    assert not keeps_level(Found(ours=0.051, upper=0.055, **usual))
    assert not keeps_level(Found(ours=0.04, upper=0.061, **usual))
    assert not keeps_power(Found(ours=0.7, upper=0.8, **usual))


def test_a_promise_that_is_not_kept_ends_with_1(
    benchmark: Run, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verdict, "IMAGES", (50,))
    monkeypatch.setattr(verdict, "FOLDED", {50: 1})
    assert benchmark("verdict", "--runs", 5) == 1  # so few runs prove nothing
    output = capsys.readouterr().out
    assert "lines keep what is promised, with 5 runs a case" in output
    assert "equal learners out of 5 folds" in output
    written = json.loads(Path("artifacts/bench/verdict.json").read_text())
    assert len(written["simulated"]) == 2 * 2 * len(CONTENDERS) + 2
    assert len(written["coverage"]) == 3
