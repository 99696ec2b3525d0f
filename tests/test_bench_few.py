"""`python -m benchmarks few`: what it measures, and when it fails."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.few import CHOSEN, SCALERS, Figures, _behind
from tests.conftest import Run, refused


def figures(learner: str, log_loss: tuple[float, ...]) -> Figures:
    right = tuple(1 - loss for loss in log_loss)
    return Figures(dataset="photos", of_class=5, learner=learner, accuracy=right, log_loss=log_loss)


def test_a_learner_is_behind_where_draws_differ_by_more_than_luck() -> None:
    theirs = [figures(name, (0.5, 0.6, 0.4)) for name in SCALERS]
    level = [figures("linear", (0.6, 0.5, 0.4)), figures(CHOSEN, (0.4, 0.52, 0.3))]
    assert list(_behind([*theirs, *level])) == []
    behind = [figures("linear", (0.6, 0.71, 0.5)), figures(CHOSEN, (0.4, 0.52, 0.3))]
    lines = list(_behind([*theirs, *behind]))
    assert len(lines) == 4
    assert lines[0] == "photos, 5 of a class: linear is behind logistic, unit length in log-loss"


def test_it_measures_draws_of_few_images(benchmark: Run, capsys: pytest.CaptureFixture[str]) -> None:
    command = ("few", "digits", "--images", "5", "--draws", 2, "--heads", "linear", "--device", "cpu")
    assert benchmark(*command) in (0, 1)
    assert "digits  5           linear" in capsys.readouterr().out
    found = json.loads(Path("artifacts/bench/few.json").read_text())["figures"]
    assert [each["learner"] for each in found] == ["linear", CHOSEN, *SCALERS]
    assert all(0.5 < share < 1 for each in found for share in each["accuracy"])
    assert "--images '1' came: expected numbers above 1, separated by commas" in refused(
        benchmark, capsys, "few", "digits", "--images", "1"
    )
