from __future__ import annotations

import pytest

from models.networks import schedules
from models.networks.schedules import learning_rate, size_at
from models.networks.settings import TrainingSettings


def test_the_schedule_rises_then_falls_to_nothing() -> None:
    settings = TrainingSettings(learning_rate=2.0, warm_up=0.25)
    rates = [learning_rate(share / 100, settings) for share in range(101)]
    assert rates[0] == pytest.approx(2.0 * schedules.START_RATE)
    assert rates.index(max(rates)) == 25
    assert rates[25] == pytest.approx(2.0)
    assert rates[25:] == sorted(rates[25:], reverse=True)
    assert rates[100] == pytest.approx(0)
    assert learning_rate(0.0, TrainingSettings(learning_rate=2.0, warm_up=0.0)) == 2.0


def test_the_step_schedule_divides_by_ten_at_each_third() -> None:
    settings = TrainingSettings(learning_rate=1.0, warm_up=0.0, schedule="step")
    assert [learning_rate(share / 10, settings) for share in (0, 3, 4, 6, 7, 10)] == pytest.approx(
        [1.0, 1.0, 0.1, 0.1, 0.01, 0.01]
    )


def test_sizes_grow_to_the_largest_and_take_as_long_each() -> None:
    assert [size_at(share, 16, 70) for share in (0.0, 0.32, 0.34, 0.66, 0.67, 1.0)] == [16, 16, 48, 48, 70, 70]
    assert {size_at(share, None, 70) for share in (0.0, 0.5, 1.0)} == {70}
