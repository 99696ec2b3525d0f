from __future__ import annotations

import json
from dataclasses import asdict

import numpy as np
import pytest
from scipy.stats import binomtest
from sklearn.metrics import classification_report

from pipeline.report.statistics import (
    CONFUSIONS,
    MATRIX_CLASSES,
    NO_IMAGES,
    Confusion,
    Predicted,
    count_predicted,
    log_likelihoods,
    log_loss_of_guess,
    score,
    wilson,
)
from tests.test_heads import toy_table


def test_accuracy_has_wilsons_interval() -> None:
    probabilities = np.tile(np.array([[0.9, 0.1]], np.float32), (10, 1))
    y = np.array([0] * 8 + [1] * 2, np.int32)
    scores = score(probabilities, y)
    # Wilson 1927, 8 of 10 at 95 %: 0.4902 to 0.9433
    assert scores.accuracy == 0.8
    assert scores.accuracy_low == pytest.approx(0.4902, abs=1e-4)
    assert scores.accuracy_high == pytest.approx(0.9433, abs=1e-4)
    assert scores.log_loss == pytest.approx(-0.8 * np.log(0.9) - 0.2 * np.log(0.1), abs=1e-5)


def test_images_of_a_group_count_for_what_they_are_worth() -> None:
    y, right = np.zeros(40, np.int32), np.repeat([True, True, True, False, True], 8)
    probabilities = np.where(right[:, None], (0.9, 0.1), (0.2, 0.8)).astype(np.float32)
    alone, alike = score(probabilities, y, np.arange(40)), score(probabilities, y, np.arange(40) // 8)
    assert alone == score(probabilities, y)
    assert alike.accuracy == alone.accuracy == 0.8
    assert (alike.accuracy_low, alike.accuracy_high) == pytest.approx(wilson(0.8, 5))  # each group right or wrong
    spread = score(probabilities, y, np.arange(40) % 8)
    assert (spread.accuracy_low, spread.accuracy_high) == pytest.approx(wilson(0.8, 40))  # each group as all others
    perfect = score(np.tile(np.array([[0.9, 0.1]], np.float32), (40, 1)), y, np.arange(40) // 8)
    assert perfect.accuracy_low == pytest.approx(wilson(1.0, 5)[0])  # nothing says that they are not alike


def test_intervals_hold_where_groups_are_alike() -> None:
    random, groups = np.random.default_rng(0), np.repeat(np.arange(40), 10)
    held = {"groups": 0, "alone": 0}
    for _ in range(400):
        chance = random.beta(4, 1, 40)[groups]  # 0.8 in the mean, correlated by 1/6 within a group
        right = random.random(400) < chance
        probabilities = np.where(right[:, None], (0.9, 0.1), (0.2, 0.8)).astype(np.float32)
        for name, each in (("groups", groups), ("alone", None)):
            scores = score(probabilities, np.zeros(400, np.int32), each)
            held[name] += scores.accuracy_low <= 0.8 <= scores.accuracy_high
    assert held["groups"] >= 0.92 * 400
    assert held["alone"] < 0.88 * 400


@pytest.mark.parametrize(("right", "images"), [(0, 7), (7, 7), (8, 10), (372, 400)])
def test_wilsons_interval_is_scipys(right: int, images: int) -> None:
    expected = binomtest(right, images).proportion_ci(0.95, method="wilson")
    assert wilson(right / images, images) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_log_loss_of_a_class_held_impossible_is_large_and_finite() -> None:
    probabilities = np.array([[0.5, 0.0, 0.5]], np.float32)
    assert 10 < score(probabilities, np.array([1], np.int32)).log_loss < 100


def guessed(classes: int, images: int = 10) -> Predicted:
    """Counts of a head that takes each third image for one of the class before."""
    y = np.arange(classes, dtype=np.int32).repeat(images)
    wrong = np.arange(len(y)) % 3 == 0
    return count_predicted(np.where(wrong, (y - 1) % classes, y), y, classes)


def test_rates_are_scikit_learns() -> None:
    y, predicted = np.array([0, 0, 1, 2, 2, 3, 3, 3], np.int32), np.array([0, 1, 1, 0, 1, 1, 3, 3])
    found = count_predicted(predicted, y, 4)
    expected = classification_report(y, predicted, labels=range(4), zero_division=0, output_dict=True)
    assert isinstance(expected, dict)
    assert found.macro_f1 == found.macro.f1
    rates = [asdict(each) for each in found.by_class] + [asdict(each) for each in (found.macro, found.weighted)]
    names = ("0", "1", "2", "3", "macro avg", "weighted avg")
    for rate, name in zip(rates, names, strict=True):
        assert rate["f1"] == pytest.approx(expected[name]["f1-score"])
        assert rate["precision"] == pytest.approx(expected[name]["precision"])
        assert rate["recall"] == pytest.approx(expected[name]["recall"])
    assert [each.support for each in found.by_class] == [2, 1, 2, 3]


def test_a_class_without_images_has_no_rates_and_is_in_no_mean() -> None:
    y, predicted = np.array([0, 0, 2, 2], np.int32), np.array([0, 0, 2, 1])
    found = count_predicted(predicted, y, 3)
    assert found.by_class[1] == NO_IMAGES
    assert found.macro.recall == 0.75
    assert found.macro_f1 == pytest.approx((1 + 2 / 3) / 2)


def test_confusions_come_by_number() -> None:
    y, predicted = np.array([2, 2, 2, 0, 1], np.int32), np.array([1, 1, 2, 2, 0])
    first, *others = count_predicted(predicted, y, 3).confusions
    assert first == Confusion(true=2, predicted=1, count=2)
    assert others == [Confusion(true=0, predicted=2, count=1), Confusion(true=1, predicted=0, count=1)]


def test_of_many_classes_no_matrix_is_kept() -> None:
    matrix = guessed(MATRIX_CLASSES).confusion_matrix
    assert matrix is not None
    assert {len(matrix), *map(len, matrix)} == {MATRIX_CLASSES}
    many = guessed(MATRIX_CLASSES + 1)
    assert many.confusion_matrix is None
    assert len(many.confusions) == CONFUSIONS
    assert len(many.by_class) == MATRIX_CLASSES + 1


def test_of_a_thousand_classes_little_is_kept() -> None:
    size = {classes: len(json.dumps(asdict(guessed(classes)), indent=2)) for classes in (500, 1000)}
    assert size[1000] < 2 * size[500]
    assert size[1000] < 250_000


def test_a_guess_knows_the_shares_of_classes() -> None:
    shares = np.array([70, 70, 70]) / 210
    assert log_loss_of_guess(toy_table()) == pytest.approx(-np.sum(shares * np.log(shares)))


def test_parts_of_the_log_loss_have_it_as_their_mean() -> None:
    random = np.random.default_rng(0)
    probabilities = random.dirichlet(np.full(4, 0.1), size=50).astype(np.float32)
    y = random.integers(0, 4, 50).astype(np.int32)
    assert -log_likelihoods(probabilities, y).mean() == pytest.approx(score(probabilities, y).log_loss, rel=1e-5)
