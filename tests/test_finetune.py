"""Fine-tuning from the command line, on small images and a small network."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch

from features.table.table import FeatureTable
from features.trunk.loaded import open_network
from features.trunk.spec import TrunkOptions
from models.networks.network import Network
from models.networks.settings import RetrainSettings
from models.networks.trainer import Trainer
from pipeline.config import FeaturesConfig, RunConfig
from pipeline.stages.finetune import plans_beside
from pipeline.stages.tables import open_run
from tests.conftest import Run, refused, unreadable
from tests.training_runs import history, kill_in_epoch

SMALL = ("--backbone", "squeezenet1_1", "--weights", "random", "--image-size", "32", "--device", "cpu")
SHORT = (*SMALL, "--epochs", "3", "--batch-images", "8")


def output(folder: str = "artifacts") -> Path:
    """The one folder that fine-tuning has made in `folder`."""
    (found,) = Path(folder, "models").glob("*/network-*")
    return found


def test_it_writes_a_classifier_that_predicts(
    treehead: Run, split_photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert treehead("finetune", split_photos, *SMALL, "--epochs", "8", "--batch-images", "8") == 0
    shown = capsys.readouterr()
    path = output() / "network.safetensors"
    assert shown.out == f"{path}\n"
    assert "random weights: the network has learnt nothing yet" in shown.err
    card: dict[str, Any] = json.loads(path.with_suffix(".json").read_text())
    assert card["head"] == "network"
    assert card["parameters"]["regime"] == "finetune"
    assert card["parameters"]["views"]["mirrored"] == 0.5
    assert card["validation"]["accuracy"] > 0.6
    assert len(history(output())) == 8
    assert (output() / "history.svg").read_text().startswith("<svg")
    photo = split_photos / "test/red/200.png"
    assert treehead("predict", path, photo, "--json") == 0
    (prediction,) = json.loads(capsys.readouterr().out)["images"]
    (table,) = (FeatureTable.open(folder) for folder in Path("artifacts/features").iterdir())
    rows = table.read("test")
    logits = rows.x[list(rows.keys).index("test/red/200.png")]
    shares = torch.softmax(torch.from_numpy(logits), 0).numpy()
    assert list(prediction["probabilities"].values()) == pytest.approx(shares, abs=1e-3)
    assert table.rows == {"test": 18}


def test_the_same_command_does_no_work_twice(
    treehead: Run, split_photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert treehead("finetune", split_photos, *SHORT) == 0
    before = {path: path.stat().st_mtime_ns for path in output().iterdir()}
    assert treehead("finetune", split_photos, *SHORT) == 0
    assert "network: reused" in capsys.readouterr().err
    assert {path: path.stat().st_mtime_ns for path in output().iterdir()} == before


@pytest.mark.parametrize("regime", ["feature-extraction", "freeze:5", "two-phase", "scratch"])
def test_every_regime(treehead: Run, split_photos: Path, regime: str) -> None:
    assert treehead("finetune", split_photos, *SHORT, "--regime", regime, "--hidden", "16") == 0
    assert len(history(output())) == 3
    path = output() / "network.safetensors"
    assert treehead("predict", path, split_photos / "test/red/200.png") == 0


@pytest.mark.slow
@pytest.mark.parametrize(("regime", "epoch"), [("finetune", 2), ("two-phase", 2), ("two-phase", 4), ("lp-ft", 3)])
def test_killed_in_an_epoch_it_ends_as_if_it_had_not_been(
    treehead: Run, split_photos: Path, regime: str, epoch: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("models.columns.workspace.FOLDS", 5)  # as in the other process, which is killed
    command = ("finetune", str(split_photos), *SMALL, "--batch-images", "8", "--epochs", "6", "--regime", regime)
    assert treehead(*command, "--out", "whole") == 0
    kill_in_epoch(epoch, *command)
    assert [row["epoch"] for row in history(output())] == [str(done) for done in range(1, epoch)]
    assert not (output() / "network.json").exists()
    assert treehead(*command) == 0
    assert history(output()) == history(output("whole"))
    name = "network.safetensors"
    assert (output() / name).read_bytes() == (output("whole") / name).read_bytes()


def test_lp_ft_starts_as_the_linear_probe(
    treehead: Run, split_photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ("--dataset", split_photos, *SMALL, "--precision", "fp32", "--heads", "linear,network")
    same = ("--network.precision", "fp32")  # as the features are, so that there is one table
    at_rest = (*same, "--network.regime", "lp-ft", "--network.epochs", "2", "--network.learning-rate", "1e-9")
    assert treehead("compare", *command, *at_rest) == 0
    assert "linear: reused" in capsys.readouterr().err
    first, *rest = history(output())
    assert len(rest) == 2
    (card,) = Path("artifacts/models").glob("*/linear-*/linear.json")
    probe: dict[str, Any] = json.loads(card.read_text())
    assert float(first["validation_loss"]) == probe["validation"]["log_loss"]
    assert first["images"] == "36"
    for row in rest:
        assert float(row["validation_loss"]) == pytest.approx(probe["validation"]["log_loss"], rel=0.05)


def test_digits_are_seen_as_they_are_unless_asked(treehead: Run) -> None:
    short = (*SMALL, "--train-limit", "40", "--epochs", "1", "--batch-images", "8")
    assert treehead("finetune", "digits", *short) == 0
    views = json.loads((output() / "network.json").read_text())["parameters"]["views"]
    assert views == {"least_area": 1.0, "most_stretch": 0.0, "most_degrees": 0.0, "mirrored": 0.0}
    assert treehead("finetune", "digits", *short, "--max-degrees", "5", "--out", "turned") == 0
    views = json.loads((output("turned") / "network.json").read_text())["parameters"]["views"]
    assert views == {"least_area": 1.0, "most_stretch": 0.0, "most_degrees": 5.0, "mirrored": 0.0}


def test_a_head_on_images_seen_as_they_are_learns_from_a_feature_table(
    treehead: Run, split_photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    as_they_are = ("--min-area", "1", "--max-stretch", "0", "--max-degrees", "0", "--hflip", "0")
    command = ("finetune", split_photos, *SHORT, *as_they_are, "--regime", "feature-extraction", "--precision", "fp32")
    assert treehead("features", "--dataset", split_photos, *SMALL, "--precision", "fp32") == 0
    capsys.readouterr()
    assert treehead(*command) == 0
    shown = capsys.readouterr().err
    assert "features: 36 train, 12 validation, 18 test images, reused" in shown
    assert "images:" not in shown
    assert treehead(*command, "--first-size", "32", "--out", "images") == 0
    assert "images: 36 train, 12 validation, 37 px" in capsys.readouterr().err
    for row, expected in zip(history(output()), history(output("images")), strict=True):
        for name, figure in row.items():
            assert float(figure) == pytest.approx(float(expected[name]), rel=2e-3), name


def test_it_competes_with_the_heads(treehead: Run, split_photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ("--heads", "linear,network", "--network.regime", "two-phase", "--network.epochs", "3")
    command = ("compare", "--dataset", split_photos, *SMALL, *options)
    assert treehead(*command) == 0
    shown = capsys.readouterr().out
    assert "network" in shown
    (metrics,) = (json.loads(path.read_text()) for path in Path("artifacts/compare").glob("*/metrics.json"))
    assert set(metrics["heads"]) == {"linear", "network"}
    figures = metrics["heads"]["network"]
    assert figures["parameters"]["regime"] == "two-phase"
    assert figures["learned"]["epochs"] == 3
    assert figures["predict_us_per_image"] > metrics["heads"]["linear"]["predict_us_per_image"]
    assert np.sum(figures["confusion_matrix"]) == 18
    (pair,) = metrics["differences"]
    assert {pair["first"], pair["second"]} == {"linear", "network"}
    assert treehead(*command) == 0
    assert "network: reused" in capsys.readouterr().err


@pytest.mark.parametrize("node", ["features.4", "features.4,avgpool", None])
def test_beside_heads_on_any_node_all_its_layers_have_their_weights(
    split_photos: Path, tmp_path: Path, node: str | None
) -> None:
    trunk = TrunkOptions(backbone="alexnet", weights="bundled", image_size=64, node=node)
    opened = open_run(FeaturesConfig(dataset=str(split_photos), trunk=trunk, run=RunConfig(out=tmp_path)))
    plan = plans_beside(opened, RetrainSettings(), seed=0)["alexnet"]
    alone = open_network(trunk)
    assert plan.settings["weights_sha256"] == alone.sha256("avgpool")


def test_a_contender_that_diverges_is_reported_and_the_others_go_on(
    treehead: Run, split_photos: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Trainer, "_step", lambda *_: torch.tensor(float("nan")))
    assert treehead("compare", "--dataset", split_photos, *SMALL, "--heads", "linear,network") == 0
    assert "network failed, the others go on: the loss is nan in epoch 1" in capsys.readouterr().err
    (folder,) = Path("artifacts/compare").iterdir()
    failed = json.loads((folder / "metrics.json").read_text())["failed"]["network"]
    assert failed == "the loss is nan in epoch 1: give a lower --network.learning-rate"
    assert "network failed and is in no figure here" in (folder / "report.html").read_text()


def test_a_contender_that_was_tested_on_other_images_is_reported_as_well(
    treehead: Run, split_photos: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ("compare", "--dataset", split_photos, *SMALL, "--max-bad", "0.1", "--network.epochs", "1")
    with monkeypatch.context() as context:
        context.setattr("features.sources.folders.read_file", unreadable("test/red/200.png"))
        assert treehead(*command[:-2], "--heads", "linear") == 0
    assert treehead(*command, "--heads", "linear,network") == 0
    error = capsys.readouterr().err
    assert "network failed, the others go on: " in error
    assert "holds other images than the tables beside it" in error


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--regime", "all"), "unknown --regime all: expected one of feature-extraction, freeze:K"),
        (("--regime", "freeze:99"), "--regime freeze:99 names no child of the network"),
        (("--hidden", "-1"), "--hidden -1 is out of range"),
        (("--regime", "lp-ft", "--hidden", "16"), "--hidden 16 does not go with lp-ft, whose head is one linear layer"),
        (("--regime", "freeze:K"), "--regime freeze:K names no child of the network"),
        (("--image-size", "8"), "--image-size 8 does not suit alexnet"),
        (("--weights", "nowhere.pth"), "unknown weights 'nowhere.pth'"),
        (
            ("--backbone", "squeezenet1_1", "--first-size", "64"),
            "--first-size 64 does not suit squeezenet1_1 at --",
        ),
    ],
)
def test_what_it_refuses(
    treehead: Run, split_photos: Path, capsys: pytest.CaptureFixture[str], options: tuple[str, str], message: str
) -> None:
    assert message in refused(treehead, capsys, "finetune", split_photos, *options)
    assert not Path("artifacts/models").exists()


def test_the_network_alone_is_no_comparison(
    treehead: Run, split_photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ("compare", "--dataset", split_photos, *SMALL)
    line = refused(treehead, capsys, *command, "--heads", "network")
    assert "--heads network leaves nothing to compare it with" in line
    line = refused(treehead, capsys, *command, "--network.minutes", "3")
    assert "--heads xgb,linear,mlp,hybrid has no network: add it" in line
    line = refused(treehead, capsys, *command, "--heads", "linear,network", "--network.regime", "freeze:99")
    assert "--network.regime freeze:99 names no child of the network" in line
    assert not Path("artifacts/models").exists()


def test_the_best_epoch_of_all_phases_is_kept(
    treehead: Run, split_photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scores = iter([(0.5, 0.7), (0.4, 0.9), (0.6, 0.5), (0.6, 0.5), (0.6, 0.6), (0.6, 0.8)])
    heads: list[torch.Tensor] = []

    def validate(trainer: Trainer) -> tuple[float, float]:
        assert isinstance(trainer.network, Network)
        heads.append(trainer.network.head.state_dict()["weight"].clone())
        return next(scores)

    monkeypatch.setattr(Trainer, "_validate", validate)
    command = ("finetune", split_photos, *SMALL, "--batch-images", "8", "--epochs", "6", "--regime", "two-phase")
    assert treehead(*command) == 0
    card = json.loads((output() / "network.json").read_text())
    assert card["learned"] == {"epochs": 6, "best_epoch": 2}
    assert card["validation"] == {"accuracy": 0.9, "log_loss": 0.4}
    assert [row["epoch"] for row in history(output())] == ["1", "2", "3", "4", "5", "6"]
    state = safetensors.torch.load_file(output() / "network.safetensors")
    assert torch.equal(state["head.weight"], heads[1])


def test_an_unreadable_test_image_does_not_lose_the_training(
    treehead: Run, split_photos: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("features.sources.folders.read_file", unreadable("test/red/200.png"))
    assert treehead("finetune", split_photos, *SHORT) == 0
    assert "1 images could not be read and are not in the table" in capsys.readouterr().err
    assert (output() / "network.json").exists()


def test_what_has_been_learnt_is_not_retried(
    treehead: Run, split_photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert treehead("finetune", split_photos, *SHORT) == 0
    assert treehead("finetune", split_photos, *SHORT, "--retry-bad") == 0
    assert f"--retry-bad leaves what has been learnt as it is: delete {output()}" in capsys.readouterr().err


def test_a_retrained_network_has_its_own_weights(
    treehead: Run, split_photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert treehead("finetune", split_photos, *SHORT, "--regime", "scratch") == 0
    path = output() / "network.safetensors"
    assert json.loads(path.with_suffix(".json").read_text())["transfer_learning"] is False
    (manifest,) = Path("artifacts/features").glob("*/manifest.json")
    assert json.loads(manifest.read_text())["transfer_learning"] is False
    line = refused(treehead, capsys, "predict", path, split_photos, "--weights", "imagenet")
    assert "--weights imagenet came with a retrained network, which has its own" in line
