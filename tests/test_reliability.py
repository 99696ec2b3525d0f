from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.report import reliability as module
from pipeline.report.reliability import Bin, answer, conformal, reliability

Told = tuple[NDArray[np.float32], NDArray[np.int32]]


def told(images: int, *, seed: int, off: float = 0.0, classes: int = 4) -> Told:
    """Probabilities of 0.5 and more for a class, which are too high by `off`, and what the images are."""
    random = np.random.default_rng(seed)
    sure = random.uniform(0.5, 1, images)
    probabilities = np.repeat((1 - sure)[:, None] / (classes - 1), classes, axis=1)
    likeliest = random.integers(classes, size=images)
    probabilities[np.arange(images), likeliest] = sure
    wrong = random.random(images) > sure - off
    return probabilities.astype(np.float32), np.where(wrong, (likeliest + 1) % classes, likeliest).astype(np.int32)


@pytest.mark.parametrize("off", [0.0, 0.08])
@pytest.mark.parametrize("images", [100, 2000])
def test_the_calibration_error_is_what_it_was_made_to_be(images: int, off: float) -> None:
    found = [reliability(*told(images, seed=seed, off=off)) for seed in range(100)]
    assert np.mean([each.error_low <= off <= each.error_high for each in found]) >= 0.9
    assert np.median([each.error for each in found]) == pytest.approx(off, abs=0.03 if images == 100 else 0.01)


def test_bins_have_as_many_images_each_and_few_images_fewer_bins() -> None:
    bins = reliability(*told(1000, seed=0)).bins
    assert [each.images for each in bins] == [100] * 10
    assert sorted(bins, key=lambda each: each.confidence) == list(bins)
    assert [len(reliability(*told(images, seed=0)).bins) for images in (1, 20, 50)] == [1, 1, 3]


def test_the_brier_score_is_that_of_all_classes() -> None:
    probabilities = np.array([[0.5, 0.25, 0.25], [0.1, 0.1, 0.8]], np.float32)
    brier = reliability(probabilities, np.array([0, 1], np.int32)).brier
    assert brier == pytest.approx((0.25 + 0.0625 + 0.0625 + 0.01 + 0.81 + 0.64) / 2)


def test_new_images_are_as_often_right_as_is_wanted() -> None:
    probabilities, y = told(100_000, seed=1)
    missed, answered = 0, []
    for seed in range(200):
        found = answer(*told(1000, seed=seed + 2), 0.9)
        assert found.threshold is not None
        assert found.accuracy is not None
        assert found.accuracy > found.reached >= 0.9
        taken = probabilities.max(axis=1) >= found.threshold
        missed += np.mean(probabilities.argmax(axis=1)[taken] == y[taken]) < 0.9
        answered.append(found.answered)
    assert missed <= 18  # of 200 at 5 %; 18 come once in 100
    assert np.mean(answered) > 0.25  # of 0.4 that are 0.8 sure or more, and so right in 0.9 on average


def test_where_no_threshold_is_enough_the_most_that_is_reached_is_told() -> None:
    all_right = np.tile(np.array([[0.1, 0.9]], np.float32), (298, 1))
    found = answer(all_right, np.ones(298, np.int32), 0.99)
    assert (found.threshold, found.answered, found.accuracy) == (None, 0, None)
    assert found.reached == pytest.approx(0.05 ** (1 / 298))
    enough = answer(np.tile(all_right[:1], (299, 1)), np.ones(299, np.int32), 0.99)
    assert (enough.answered, enough.accuracy) == (1, 1)
    assert enough.threshold == pytest.approx(0.9)
    assert answer(all_right[:1], np.zeros(1, np.int32), 0.5).reached == 0


def test_images_that_are_as_sure_are_answered_together() -> None:
    sure = np.repeat([0.9, 0.6], [200, 200])
    y = np.repeat([0, 1], [200, 200]).astype(np.int32)
    found = answer(np.column_stack([sure, 1 - sure]).astype(np.float32), y, 0.6)
    assert found.threshold == pytest.approx(0.9)
    assert found.answered == 0.5


@pytest.mark.parametrize(("classes", "off"), [(4, 0.0), (4, 0.3), (30, 0.0)])
def test_sets_hold_the_right_class_as_often_as_they_say(classes: int, off: float) -> None:
    found = conformal(*told(2000, seed=0, off=off, classes=classes))
    assert found is not None
    assert found.coverage == pytest.approx(0.9, abs=0.01)
    better = conformal(*told(2000, seed=0, classes=classes))
    assert better is not None
    assert better.classes <= found.classes <= classes


def test_few_images_have_no_sets() -> None:
    assert reliability(*told(17, seed=0)).conformal is None
    assert reliability(*told(18, seed=0)).conformal is not None


def test_a_bin_without_a_mistake_has_an_interval_that_holds_what_is_seen() -> None:
    error, low, high = module._calibration_error([Bin(confidence=1.0, accuracy=1.0, images=50)])
    assert (error, low, high) == (0, 0, 0)
    error, low, high = module._calibration_error([Bin(confidence=0.5, accuracy=1.0, images=50)])
    assert 0.3 < low < error < high < 0.7
