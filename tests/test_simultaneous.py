from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import norm, t

from pipeline.report import simultaneous
from pipeline.report.simultaneous import LEVEL, compare_all


def likely(images: int, contenders: int, *, seed: int, gap: float = 0.0) -> NDArray[np.float64]:
    """Scores of contenders that are right on about nine images in ten, as a rule on the same; the last is worse."""
    random = np.random.default_rng(seed)
    ease = np.sqrt(0.8) * random.normal(size=(images, 1)) + np.sqrt(0.2) * random.normal(size=(images, contenders))
    ease[:, -1] -= gap
    scores: NDArray[np.float64] = ease + float(norm.ppf(0.9))
    return scores


def names(count: int) -> list[str]:
    return [f"head {number}" for number in range(count)]


@pytest.fixture(autouse=True)
def fewer_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(simultaneous, "DRAWS", 2048)


@pytest.mark.parametrize("contenders", [2, 6])
def test_equal_contenders_are_seldom_told_apart(contenders: int) -> None:
    wrong = [
        any(pair.certain for pair in compare_all(names(contenders), likely(300, contenders, seed=seed) > 0))
        for seed in range(300)
    ]
    assert sum(wrong) <= 25  # of 300 at 5 %, 25 or more come once in 100; each pair for itself would give 60 of six


def test_a_difference_that_is_large_enough_is_found_in_four_of_five() -> None:
    found, shown = [], []
    for seed in range(200):
        pairs = compare_all(names(4), likely(500, 4, seed=seed, gap=0.38) > 0)
        worst = [pair for pair in pairs if pair.second == "head 3"]
        found.append(any(pair.certain for pair in worst))
        shown.append(np.mean([pair.shown for pair in worst]))
    gap = 0.9 - float(norm.cdf(norm.ppf(0.9) - 0.38))
    assert np.mean(shown) <= gap + 0.005
    assert np.mean(found) >= 0.75


def test_all_pairs_together_cost_less_than_bonferroni() -> None:
    right = likely(400, 6, seed=0) > 0
    together = {(pair.first, pair.second): pair for pair in compare_all(names(6), right)}
    level = float(norm.ppf(1 - 0.025 / 15))
    for pair, (i, j) in zip(together.values(), combinations(range(6), 2), strict=True):
        (alone,) = compare_all(names(2), right[:, [i, j]])
        assert alone.high - alone.low < pair.high - pair.low < (alone.high - alone.low) * level / norm.ppf(0.975)


def test_images_that_are_the_same_count_once() -> None:
    scores = likely(200, 3, seed=0)
    once = compare_all(names(3), scores)
    copies = compare_all(names(3), np.repeat(scores, 4, axis=0), np.repeat(np.arange(200), 4))
    unaware = compare_all(names(3), np.repeat(scores, 4, axis=0))
    for one, other, narrow in zip(once, copies, unaware, strict=True):
        assert (other.low, other.high) == pytest.approx((one.low, one.high), abs=1e-3)
        assert narrow.high - narrow.low == pytest.approx((one.high - one.low) / 2, rel=0.02)


def test_contenders_that_agree_on_every_image() -> None:
    right = np.repeat(likely(60, 1, seed=0) > 0, 3, axis=1)
    for pair in compare_all(names(3), right):
        assert pair.difference == 0
        assert pair.needed is None
        assert pair.low < 0 < pair.high
    for pair in compare_all(names(3), right.astype(np.float64)):
        assert (pair.low, pair.high, pair.certain) == (0, 0, False)


def test_one_pair_has_bonett_and_prices_interval() -> None:
    """10 images that the first alone is right on, 4 that the second is, of 100: Bonett and Price 2012."""
    right = np.ones((100, 2), bool)
    right[:10, 1] = False
    right[10:14, 0] = False
    (pair,) = compare_all(("first", "second"), right)
    p, q = 11 / 102, 5 / 102
    critical = float(t.ppf((1 + LEVEL) / 2, 99))
    margin = critical * np.sqrt((p + q - (p - q) ** 2) / 102)
    assert pair.difference == pytest.approx(0.06)
    assert (pair.low, pair.high) == pytest.approx((p - q - margin, p - q + margin), abs=5e-4)


def test_an_interval_covers_the_truth_as_often_as_it_says() -> None:
    random, covered = np.random.default_rng(0), 0
    for _ in range(1000):
        kind = random.choice(4, size=80, p=[0.75, 0.12, 0.05, 0.08])  # both, first only, second only, neither
        (pair,) = compare_all(("first", "second"), np.column_stack([np.isin(kind, [0, 1]), np.isin(kind, [0, 2])]))
        covered += pair.low <= 0.07 <= pair.high
    assert 0.93 <= covered / 1000 <= 0.985


def test_folds_make_intervals_wider() -> None:
    """Nadeau and Bengio 2003: a variance of 1 / 5 + 1 / 4 in place of 1 / 5."""
    for scores in (likely(200, 3, seed=0), likely(200, 3, seed=0) > 0):
        split, folded = compare_all(names(3), scores), compare_all(names(3), scores, folds=5)
        for one, other in zip(split, folded, strict=True):
            assert other.difference == one.difference
            assert other.high - other.low == pytest.approx((one.high - one.low) * 1.5)
            assert other.shown == pytest.approx(one.shown * 1.5)


def test_one_contender_has_nobody_beside_it() -> None:
    assert compare_all(["linear"], likely(50, 1, seed=0) > 0) == ()


def test_images_that_come_several_times_tell_what_they_tell_once() -> None:
    right = np.random.default_rng(1).random((60, 3)) < (0.9, 0.85, 0.6)
    once = compare_all(("a", "b", "c"), right)
    often = compare_all(("a", "b", "c"), np.repeat(right, 5, axis=0), np.repeat(np.arange(60), 5))
    for first, second in zip(once, often, strict=True):
        assert (second.low, second.high) == pytest.approx((first.low, first.high))
