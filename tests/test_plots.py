from __future__ import annotations

import math

import pytest

from models.networks.epochs import Epoch
from models.trials import Tried
from pipeline.report.plots import Marks, Plot, Scale, history_plot, search_plot


@pytest.mark.parametrize(
    ("values", "logarithmic", "ticks"),
    [
        ((0.873, 0.945), False, [0.88, 0.9, 0.92, 0.94]),
        ((-0.02, 0.04), False, [-0.02, 0.0, 0.02, 0.04]),
        ((5.0,), False, [4.99, 4.995, 5.0, 5.005, 5.01]),
        ((100, 6000), True, [100, 200, 500, 1000, 2000, 5000]),
        ((100, 3000), True, [100, 200, 500, 1000, 2000]),
        ((0.32, 0.34), True, [0.3, 0.32, 0.34, 0.36]),
        ((), False, [0.99, 0.995, 1.0, 1.005, 1.01]),
    ],
)
def test_ticks_are_a_handful_of_round_numbers(values: tuple[float, ...], logarithmic: bool, ticks: list[float]) -> None:
    assert Scale.over(values, logarithmic=logarithmic).ticks == pytest.approx(ticks)


def test_what_cannot_stand_on_an_axis_is_not_drawn() -> None:
    points = [(1, 0.0), (2, math.nan), (3, math.inf), (4, 0.5), (5, 0.25)]
    plot = Plot(name="", x_name="", y_name="", marks=(Marks(kind="dots", points=points),), logarithmic="y")
    assert len(plot.path(plot.marks[0])) == 2


def test_a_search_whose_losses_went_beyond_all_numbers_is_drawn() -> None:
    lost = Tried(number=0, loss=None, state="complete")
    for trials in ([lost], [lost, Tried(number=1, loss=0.0, state="complete")]):
        assert all(plot.path(marks) == [] for plot in [search_plot("xgb", trials)] for marks in plot.marks)


def test_the_lowest_loss_so_far_counts_only_what_was_finished() -> None:
    states = (("complete", 0.5), ("pruned", 0.1), ("complete", 0.4), ("complete", 0.6))
    trials = [Tried(number=number, loss=loss, state=state) for number, (state, loss) in enumerate(states)]  # type: ignore[arg-type]
    (steps,) = [marks for marks in search_plot("xgb", trials).marks if marks.kind == "steps"]
    assert [loss for _, loss in steps.points] == [0.5, 0.5, 0.4, 0.4]


def test_one_epoch_makes_a_picture_already() -> None:
    epoch = Epoch(
        epoch=1,
        images=10,
        seconds=1.0,
        images_per_second=10.0,
        learning_rate=0.1,
        loss=2.0,
        validation_loss=1.5,
        validation_accuracy=1.0,
    )
    assert ">100%</text>" in history_plot([epoch])
    assert ">100.5%</text>" not in history_plot([epoch])
