from __future__ import annotations

import numpy as np
import pytest

from pipeline.report.statistics import paired_difference, score


def test_accuracy_has_wilsons_interval() -> None:
    probabilities = np.tile(np.array([[0.9, 0.1]], np.float32), (10, 1))
    y = np.array([0] * 8 + [1] * 2, np.int32)
    scores = score(probabilities, y)
    # Wilson 1927, 8 of 10 at 95 %: 0.4902 to 0.9433
    assert scores.accuracy == 0.8
    assert scores.accuracy_low == pytest.approx(0.4902, abs=1e-4)
    assert scores.accuracy_high == pytest.approx(0.9433, abs=1e-4)
    assert scores.log_loss == pytest.approx(-0.8 * np.log(0.9) - 0.2 * np.log(0.1), abs=1e-5)
    assert scores.macro_f1 == pytest.approx((16 / 18 + 0) / 2)


def test_log_loss_of_a_class_held_impossible_is_large_and_finite() -> None:
    probabilities = np.array([[0.5, 0.0, 0.5]], np.float32)
    assert 10 < score(probabilities, np.array([1], np.int32)).log_loss < 100


def right(count: int, wrong: range) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    marks = np.ones(count, dtype=np.bool_)
    marks[wrong.start : wrong.stop] = False
    return marks


def test_paired_difference_counts_disagreements_alone() -> None:
    # 12 images only the first has right, 4 only the second, of 100; by Bonett and Price: p = 13/102, q = 5/102
    marks = {"first": right(100, range(12, 16)), "second": right(100, range(12))}
    pair = paired_difference("first", "second", right=marks)
    assert pair.difference == pytest.approx(0.08)
    assert pair.low == pytest.approx(-0.0018, abs=1e-3)
    assert pair.high == pytest.approx(0.1587, abs=1e-3)


def test_heads_that_never_disagree_are_not_certainly_equal() -> None:
    marks = {"first": right(20, range(3)), "second": right(20, range(3))}
    pair = paired_difference("first", "second", right=marks)
    assert pair.difference == 0
    assert pair.low == pytest.approx(-pair.high)
    assert 0.05 < pair.high < 0.2


def test_the_interval_covers_the_truth_as_often_as_it_says() -> None:
    random = np.random.default_rng(0)
    covered = 0
    for _ in range(1000):
        kind = random.choice(4, size=80, p=[0.75, 0.12, 0.05, 0.08])  # both, first only, second only, neither
        marks = {"first": np.isin(kind, [0, 1]), "second": np.isin(kind, [0, 2])}
        pair = paired_difference("first", "second", right=marks)
        covered += pair.low <= 0.07 <= pair.high
    assert 0.93 <= covered / 1000 <= 0.985
