"""Pretraining from the command line, on small images and a small network."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch

from features.storage import file_sha256
from models.networks.epochs import Pulse
from models.networks.trainer import Trainer
from tests.conftest import Run, refused
from tests.training_runs import history, kill_in_epoch

SMALL = ("--backbone", "squeezenet1_1", "--image-size", "32", "--epochs", "3", "--batch-images", "8", "--device", "cpu")


def output(folder: str = "artifacts") -> Path:
    """The one folder that pretraining has made in `folder`."""
    (found,) = Path(folder, "pretrain").iterdir()
    return found


def test_it_writes_a_trunk_a_history_and_a_card(
    treehead: Run, split_photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert treehead("pretrain", split_photos, *SMALL) == 0
    folder = output()
    assert capsys.readouterr().out == f"{folder / 'trunk.safetensors'}\n"
    assert folder.name.startswith("split_photos-squeezenet1_1-")
    names = {"trunk.safetensors", "card.json", "history.csv", "history.svg", "checkpoint.pt"}
    assert {path.name for path in folder.iterdir()} == names
    assert [row["epoch"] for row in history(folder)] == ["1", "2", "3"]
    assert (folder / "history.svg").read_text().startswith("<svg")
    card: dict[str, Any] = json.loads((folder / "card.json").read_text())
    assert card["trunk"]["sha256"] == file_sha256(folder / "trunk.safetensors")
    assert card["trained_at_px"] == 32
    assert card["recipe"]["image_size"] == 224
    assert card["data"] | {"source_sha256": ""} == {
        "name": "split photos",
        "classes": 3,
        "train": 36,
        "validation": 12,
        "unreadable": 0,
        "source_sha256": "",
    }
    assert 0 <= card["validation"]["accuracy"] <= 1
    assert card["command"].startswith("treehead pretrain")
    assert card["epochs"] == 3


def test_the_trunk_serves_as_weights(treehead: Run, split_photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert treehead("pretrain", split_photos, *SMALL) == 0
    trunk = output() / "trunk.safetensors"
    state = safetensors.torch.load_file(trunk)
    assert {"features.0.weight", "features.0.bias", "features.12.expand3x3.bias"} <= state.keys()
    assert not [name for name in state if name.startswith("classifier")]
    capsys.readouterr()
    command = ("features", "--dataset", split_photos, "--weights", trunk, *SMALL[:4], "-v")
    assert treehead(*command) == 0
    output_lines = capsys.readouterr().err
    assert "no transfer learning" not in output_lines
    assert "trunk.safetensors weights" in output_lines


def test_the_same_command_does_no_work_twice(
    treehead: Run, split_photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert treehead("pretrain", split_photos, *SMALL) == 0
    before = {path: path.stat().st_mtime_ns for path in output().iterdir()}
    assert treehead("pretrain", split_photos, *SMALL) == 0
    assert "pretrain: reused" in capsys.readouterr().err
    assert {path: path.stat().st_mtime_ns for path in output().iterdir()} == before


@pytest.mark.slow
def test_killed_in_an_epoch_it_ends_as_if_it_had_not_been(
    treehead: Run, split_photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ("pretrain", str(split_photos), *SMALL)
    assert treehead(*command, "--out", "whole") == 0
    kill_in_epoch(2, *command)
    assert [row["epoch"] for row in history(output())] == ["1"]
    assert not (output() / "card.json").exists()
    capsys.readouterr()
    assert treehead(*command) == 0
    assert history(output()) == history(output("whole"))
    name = "trunk.safetensors"
    assert (output() / name).read_bytes() == (output("whole") / name).read_bytes()
    error = capsys.readouterr().err
    assert "epoch 2:" in error
    assert "epoch 1:" not in error


def test_interrupting_keeps_the_best_so_far(
    treehead: Run, split_photos: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = Trainer.run

    def interrupted(trainer: Trainer, checkpoint: Path, _: object, on_epoch: Any) -> None:
        def on_step(pulse: Pulse) -> None:
            if pulse.epoch == 2:
                raise KeyboardInterrupt

        whole(trainer, checkpoint, on_step, on_epoch)

    monkeypatch.setattr(Trainer, "run", interrupted)
    assert treehead("pretrain", split_photos, *SMALL) == 130
    error = capsys.readouterr().err
    assert "the best so far, of epoch 1, is in" in error
    assert "interrupted: what was finished is kept, and the same command goes on from there" in error
    assert safetensors.torch.load_file(output() / "trunk.safetensors")
    assert not (output() / "card.json").exists()


def test_images_that_cannot_be_read_are_listed(
    treehead: Run, split_photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (split_photos / "train/red/000.png").write_bytes(b"no image")
    line = refused(treehead, capsys, "pretrain", split_photos, *SMALL)
    assert "1 of 48 images could not be read, more than --max-bad 0.01 allows (first: train/red/000.png" in line
    assert treehead("pretrain", split_photos, *SMALL, "--max-bad", "0.1") == 0
    assert "1 images could not be read and are left out: see" in capsys.readouterr().err
    assert json.loads((output() / "card.json").read_text())["data"]["unreadable"] == 1


def test_a_trunk_that_was_changed(treehead: Run, split_photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert treehead("pretrain", split_photos, *SMALL) == 0
    trunk = output() / "trunk.safetensors"
    trunk.write_bytes(trunk.read_bytes() + b"!")
    line = refused(treehead, capsys, "pretrain", split_photos, *SMALL)
    assert "trunk.safetensors is not the file its card names (its SHA-256 differs): delete" in line
    trunk.unlink()
    assert "trunk.safetensors cannot be read (No such file" in refused(
        treehead, capsys, "pretrain", split_photos, *SMALL
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--backbone", "alexnet", "--image-size", "32"), "--image-size 32 does not suit alexnet: expected 63 or more"),
        (("--first-size", "32"), "--first-size 32 does not suit alexnet at --image-size 96"),
        (("--first-size", "97"), "--first-size 97 is above --image-size 96: expected at most that"),
        (("--backbone", "alexnot"), "unknown backbone 'alexnot'"),
        (("--minutes", "0"), "--minutes 0.0 is out of range: expected above 0, at most 1000000"),
        (("--max-bad", "2"), "--max-bad 2.0 is no share: expected a number from 0 to 1"),
        (("--precision", "fp8"), "unknown precision 'fp8': expected auto, fp32, bf16, fp16"),
    ],
)
def test_mistakes_are_one_line(
    treehead: Run,
    split_photos: Path,
    capsys: pytest.CaptureFixture[str],
    options: tuple[str, ...],
    message: str,
) -> None:
    assert message in refused(treehead, capsys, "pretrain", split_photos, *options)
    assert not Path("artifacts/pretrain").exists()


def test_it_learns_from_a_teacher(treehead: Run, split_photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert treehead("pretrain", split_photos, *SMALL) == 0
    teacher = output() / "trunk.safetensors"
    assert treehead("pretrain", split_photos, *SMALL, "--teacher", teacher, "--out", "taught") == 0
    taught = output("taught")
    card: dict[str, Any] = json.loads((taught / "card.json").read_text())
    assert card["teacher"]["weights"] == "trunk.safetensors"
    assert len(card["teacher"]["sha256"]) == 64
    assert taught.name != output().name
    assert float(history(taught)[0]["loss"]) > float(history(output())[0]["loss"])
    line = refused(treehead, capsys, "pretrain", split_photos, *SMALL, "--teacher", "nowhere.safetensors")
    assert "unknown weights 'nowhere.safetensors'" in line
    line = refused(treehead, capsys, "pretrain", split_photos, *SMALL, "--teacher", "random")
    assert "--teacher random has random weights: give imagenet, bundled or a file" in line


def test_a_teacher_in_bfloat16(treehead: Run, split_photos: Path) -> None:
    assert treehead("pretrain", split_photos, *SMALL) == 0
    teacher = output() / "trunk.safetensors"
    options = ("--precision", "bf16", "--teacher", teacher, "--out", "taught")
    assert treehead("pretrain", split_photos, *SMALL, *options) == 0
    assert 0 < float(history(output("taught"))[0]["loss"]) < 100


def test_images_for_test_are_not_held_back_and_that_is_said(
    treehead: Run, photos: Path, split_photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert treehead("pretrain", photos, *SMALL) == 0
    assert "photos has no test images: all are learnt from" in capsys.readouterr().err
    card: dict[str, Any] = json.loads((output() / "card.json").read_text())
    assert card["data"]["train"] + card["data"]["validation"] == 120
    assert treehead("pretrain", split_photos, *SMALL, "--out", "others") == 0
    assert "has no test images" not in capsys.readouterr().err
