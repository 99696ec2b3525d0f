"""`predict --at-least`: classes that are left open, and what the threshold is known from."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from features.storage import FileRecord, sealed, write_json
from models.card import SEAL, load_classifier
from models.unseen import Unseen
from tests.conftest import Run, refused


@pytest.fixture
def trees(compared: Path) -> Path:
    return next(compared.glob("models/*/xgb-*/xgb.joblib"))


def known(model: Path, threshold: float, images: int = 400) -> None:
    """Keep beside the classifier at `model` what it said of images: all right from `threshold` on, else wrong."""
    head, card = load_classifier(model)
    sure = np.repeat([threshold, 0.5], [images * 3 // 4, images // 4]).astype(np.float32)
    shares = np.column_stack([sure, 1 - sure, np.zeros(images, np.float32)])
    labels = np.repeat([0, 1], [images * 3 // 4, images // 4]).astype(np.int32)
    file = model.with_suffix(".parquet")
    Unseen(keys=np.arange(images).astype(str).astype(object), labels=labels, probabilities=shares).write(file)
    told = replace(card, files={**card.files, file.name: FileRecord.of(file)})
    write_json(model.with_suffix(".json"), sealed({"format": head.format, **asdict(told)}, SEAL))


@pytest.fixture
def shares(trees: Path, treehead: Run, split_photos: Path, capsys: pytest.CaptureFixture[str]) -> list[float]:
    """The test images' highest probabilities, lowest first."""
    capsys.readouterr()
    assert treehead("predict", trees, split_photos / "test", "--json") == 0
    return sorted(each["probability"] for each in json.loads(capsys.readouterr().out)["images"])


def test_unsure_images_are_left_open_on_every_way_out(
    trees: Path, shares: list[float], treehead: Run, split_photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    known(trees, shares[9])
    command = ("predict", trees, split_photos / "test", "--at-least", "0.95")
    left_open = sum(share < shares[9] for share in shares)
    assert 0 < left_open < 18

    assert treehead(*command, "--json") == 0
    output = capsys.readouterr()
    content = json.loads(output.out)
    assert content["at_least"] == 0.95
    assert content["threshold"] == shares[9]
    assert [(each["class"] is None) == (each["probability"] < shares[9]) for each in content["images"]] == [True] * 18
    assert sum(each["class"] is None for each in content["images"]) == left_open
    assert "at least 95.0% right: classes are left open below a probability of" in output.err
    assert "by 400 images that xgb had not learnt from" in output.err
    assert f"{left_open} of 18 images left open" in output.err

    assert treehead(*command, "--csv") == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [row["class"] == "" for row in rows] == [each["class"] is None for each in content["images"]]
    assert all(row["probability"] for row in rows)

    assert treehead(*command) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert sum(line[-2] == "?" for line in lines) == left_open

    assert treehead(*command, "--out", "p.parquet") == 0
    assert f"{left_open} of 18 images left open" in capsys.readouterr().err
    table = pq.read_table("p.parquet")
    assert table["class"].to_pylist() == [each["class"] for each in content["images"]]
    assert table["probability"].null_count == table["probabilities"].null_count == 0


def test_a_file_without_open_classes_is_not_taken_for_one_with_them(
    trees: Path, shares: list[float], treehead: Run, split_photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    known(trees, shares[9])
    left_open = sum(share < shares[9] for share in shares)
    command = ("predict", trees, split_photos / "test", "--out", "p.parquet")
    assert treehead(*command) == 0
    assert pq.read_table("p.parquet")["class"].null_count == 0
    assert treehead(*command, "--at-least", "0.95") == 0
    assert "none reused" in capsys.readouterr().err
    assert pq.read_table("p.parquet")["class"].null_count == left_open
    assert treehead(*command, "--at-least", "0.95") == 0
    output = capsys.readouterr()
    assert "18 of them reused" in output.err
    assert f"{left_open} of 18 images left open" in output.err


def test_what_is_not_known_is_refused(
    trees: Path, treehead: Run, split_photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    known(trees, 0.9, images=100)
    command = ("predict", trees, split_photos / "test", "--at-least")
    assert "--at-least 0.99 came, and 100 images that xgb had not learnt from show no more than 0.96" in refused(
        treehead, capsys, *command, "0.99"
    )
    assert "of any threshold: give that or less, or train with more images" in refused(
        treehead, capsys, *command, "0.97"
    )
    trees.with_suffix(".parquet").write_bytes(b"other")
    assert "xgb.parquet is not the file its card names (its SHA-256 differs)" in refused(
        treehead, capsys, *command, "0.9"
    )


def test_a_classifier_of_which_nothing_is_kept_is_refused(
    trees: Path, treehead: Run, split_photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    head, card = load_classifier(trees)
    kept = {name: record for name, record in card.files.items() if not name.endswith(".parquet")}
    write_json(trees.with_suffix(".json"), sealed({"format": head.format, **asdict(replace(card, files=kept))}, SEAL))
    message = refused(treehead, capsys, "predict", trees, split_photos / "test", "--at-least", "0.9")
    assert "xgb.joblib has no probabilities of images that it had not learnt from (xgb.parquet)" in message


@pytest.mark.parametrize("share", ["0", "1", "1.5", "-0.1"])
def test_a_share_that_is_none(share: str, treehead: Run, capsys: pytest.CaptureFixture[str]) -> None:
    message = refused(treehead, capsys, "predict", "x.joblib", "a.png", f"--at-least={share}")
    assert f"--at-least {float(share)} came: expected a share between 0 and 1, such as 0.99" in message


def test_imagenet_has_none(treehead: Run, capsys: pytest.CaptureFixture[str]) -> None:
    message = refused(treehead, capsys, "predict", "--imagenet", "a.png", "--at-least", "0.9")
    assert "--at-least came with --imagenet, of whose network it is not known: give a classifier" in message
