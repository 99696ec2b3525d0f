"""`bench weights` on small images: what it measures, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.weights import HEADS, SetFigures, shares
from features.storage import from_json
from pipeline.report.statistics import Scores
from tests.conftest import Run, refused

SMALL = ("--backbone", "squeezenet1_1", "--device", "cpu")


def scores(accuracy: float) -> Scores:
    return Scores(accuracy=accuracy, accuracy_low=0.0, accuracy_high=1.0, log_loss=0.5)


def test_shares_lead_from_the_first_weights_to_the_last() -> None:
    accuracies = {"random": (0.5, 0.6), "bundled": (0.65, 0.55), "imagenet": (0.7, 0.6)}
    measured = {
        name: {head: scores(value) for head, value in zip(HEADS, pair, strict=True)}
        for name, pair in accuracies.items()
    }
    found = shares(measured)
    assert found["random"] == {"linear": 0, "xgb": None}
    assert found["bundled"]["linear"] == pytest.approx(0.75)
    assert found["imagenet"] == {"linear": 1, "xgb": None}


def test_it_measures_each_weights_on_each_set(
    treehead: Run, benchmark: Run, split_photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert treehead("pretrain", split_photos, *SMALL, "--image-size", "32", "--epochs", "1") == 0
    (trunk,) = Path("artifacts/pretrain").glob("*/trunk.safetensors")
    command = ("weights", split_photos, "digits", "--train-limit", "60", *SMALL)
    assert benchmark(*command, "--weights", f"random,{trunk}") == 0
    shown = capsys.readouterr().out
    assert "split photos: " in shown
    assert "of the way" in shown
    written = json.loads(Path("artifacts/bench/weights.json").read_text())
    assert [each["dataset"] for each in written["sets"]] == ["split photos", "digits"]
    for each in written["sets"]:
        assert list(each["measured"]) == ["random", str(trunk)]
        assert each["share"] == shares(from_json(SetFigures, each).measured)
        for figures in each["measured"].values():
            assert set(figures) == set(HEADS)
            assert figures["linear"]["accuracy_low"] <= figures["linear"]["accuracy"]


def test_what_it_refuses(benchmark: Run, split_photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = refused(benchmark, capsys, "weights", split_photos, "--weights", "random")
    assert "--weights 'random' leaves nothing to compare: give two or more" in line
    line = refused(benchmark, capsys, "weights", "nowhere", "--weights", "random,bundled")
    assert "unknown data set 'nowhere'" in line
    command = ("weights", split_photos, "--weights", "random,nowhere.safetensors")
    assert "unknown weights 'nowhere.safetensors'" in refused(benchmark, capsys, *command)
    assert not list(Path("artifacts").glob("features"))


def test_the_best_weights_at_hand_are_some_as_well(benchmark: Run, split_photos: Path) -> None:
    assert benchmark("weights", split_photos, *SMALL, "--weights", "random,auto") == 0
    (content,) = json.loads(Path("artifacts/bench/weights.json").read_text())["sets"]
    assert content["measured"]["auto"] == content["measured"]["random"], "nothing else is there for this network"
