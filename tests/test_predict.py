from __future__ import annotations

import csv
import io
import json
import os
from pathlib import Path

import pytest

from tests.conftest import Run


def test_predict_agrees_with_the_table(
    model: Path, treehead: Run, split_photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    assert treehead("predict", model, split_photos / "test", "--json") == 0
    content = json.loads(capsys.readouterr().out)
    assert content["transfer_learning"] is False
    assert content["trunks"][0]["backbone"] == "resnet18"
    predictions = content["images"]
    metrics = json.loads(next(Path("artifacts").glob("compare/*/metrics.json")).read_text())
    right = sum(prediction["class"] == Path(prediction["image"]).parent.name for prediction in predictions)
    assert len(predictions) == 18
    assert right / 18 == metrics["heads"]["xgb"]["accuracy"]
    for prediction in predictions:
        assert sum(prediction["probabilities"].values()) == pytest.approx(1, abs=1e-5)
        assert prediction["probability"] == max(prediction["probabilities"].values())


@pytest.mark.parametrize("pattern", ["linear-*/linear.joblib", "mlp-*/mlp.joblib"])
def test_predict_takes_every_head(
    pattern: str, compared: Path, treehead: Run, split_photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    path = next(compared.glob(f"models/*/{pattern}"))
    image = split_photos / "test/green/200.png"
    assert treehead("predict", path, image, "--csv") == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [row["image"] for row in rows] == [str(image)]
    assert rows[0]["class"] in {"blue", "green", "red"}
    assert treehead("predict", path, image) == 0
    assert rows[0]["class"] in capsys.readouterr().out


NAMES = ("=1+1.png", "+x.png", "-1.png", "@x.png", "\tx.png", "a,b.png", 'say "a".png', "\x1b[31mred.png", "naïve.png")


def test_names_are_safe_in_a_spreadsheet_and_whole_in_json(
    model: Path, treehead: Run, split_photos: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "odd").mkdir()
    for name in NAMES:
        (tmp_path / "odd" / name).write_bytes((split_photos / "test/red/200.png").read_bytes())
    capsys.readouterr()
    paths = [os.path.relpath(tmp_path / "odd" / name, tmp_path / "odd") for name in NAMES]
    os.chdir(tmp_path / "odd")
    command = ("predict", tmp_path / model, "--csv", "--", *paths)
    assert treehead(*command) == 0
    text = capsys.readouterr().out
    assert text.count("\r\n") == text.count("\n") == len(NAMES) + 1
    rows = list(csv.DictReader(io.StringIO(text, newline="")))
    assert [row["image"] for row in rows] == [
        *("'=1+1.png", "'+x.png", "'-1.png", "'@x.png", "'\\tx.png", "a,b.png", 'say "a".png'),
        *("\\x1b[31mred.png", "naïve.png"),
    ]
    assert treehead("predict", tmp_path / model, "--json", "--", *paths) == 0
    text = capsys.readouterr().out
    assert text.isascii()
    assert [image["image"] for image in json.loads(text)["images"]] == list(NAMES)
    assert treehead("predict", tmp_path / model, "--", *paths) == 0
    assert "\x1b" not in capsys.readouterr().out


def test_predict_shows_what_it_could_before_it_fails(
    model: Path, treehead: Run, split_photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "bad.png").write_text("no image")
    capsys.readouterr()
    image = split_photos / "test/red/200.png"
    assert treehead("predict", model, "bad.png", image, "absent.png", "--json") == 2
    output = capsys.readouterr()
    first, second, third = json.loads(output.out)["images"]
    assert first == {"image": "bad.png", "error": "not an image"}
    assert second["image"] == str(image)
    assert third["error"] == "unreadable: No such file or directory"
    assert "2 of 3 images could not be read (first: bad.png, not an image)" in output.err
