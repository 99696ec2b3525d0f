"""`python -m benchmarks calibration`: what it says of probabilities."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks import calibration
from benchmarks.calibration import _broken, best_temperature, measure
from models.heads.head import Probabilities
from tests.conftest import Run


def at(temperature: float, images: int = 4000) -> tuple[Probabilities, np.ndarray]:
    """Calibrated probabilities of three classes, spoilt by a temperature, and labels."""
    random = np.random.default_rng(0)
    logits = 2 * random.normal(size=(images, 3))
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    y = (random.random((images, 1)) > shares.cumsum(axis=1)).sum(axis=1).astype(np.int32)
    spoilt = np.exp(logits * temperature)
    return (spoilt / spoilt.sum(axis=1, keepdims=True)).astype(np.float32), y


def test_the_best_temperature_is_found() -> None:
    for temperature in (1.0, 3.0):
        assert best_temperature(*at(temperature)) == pytest.approx(temperature, rel=0.06)
    right = np.array([[0.9, 0.1], [0.2, 0.8]], np.float32)
    assert best_temperature(right, np.array([0, 1], np.int32)) is None


def test_what_overconfidence_costs() -> None:
    good, bad = measure("set", "head", *at(1.0)), measure("set", "head", *at(3.0))
    assert good.over_best == pytest.approx(1, abs=2e-3)
    assert bad.over_best is not None
    assert bad.over_best > 1.3
    assert good.error < 0.02 < 0.1 < bad.error_low
    assert good.coverage == pytest.approx(0.9, abs=0.01)
    assert bad.coverage == pytest.approx(0.9, abs=0.01)


def test_what_is_promised_is_checked() -> None:
    assert list(_broken(measure("set", "head", *at(1.0)))) == []
    assert "the log-loss is" in next(_broken(measure("set", "head", *at(3.0))))
    good = measure("set", "head", *at(1.0))
    assert "calibration makes a log-loss" in next(_broken(replace(good, before=0.9 * good.log_loss)))


def test_it_measures_the_heads_of_a_comparison(
    benchmark: Run, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calibration, "ENOUGH", 1)
    command = ("calibration", "digits", "--train-limit", 60, "--heads", "linear,knn", "--device", "cpu")
    assert benchmark(*command) == 0
    output = capsys.readouterr().out
    assert "sets cover" not in output
    written = json.loads(Path("artifacts/bench/calibration.json").read_text())
    assert [(each["dataset"], each["head"]) for each in written["heads"]] == [("digits", "linear"), ("digits", "knn")]
    monkeypatch.setattr(calibration, "COVERAGE", 0.5)
    assert benchmark(*command) == 1
    assert "linear on digits: sets cover 9" in capsys.readouterr().out
