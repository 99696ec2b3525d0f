from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from features.storage import SCRATCH
from pipeline.errors import PredictError
from pipeline.report import prediction_file
from pipeline.report.prediction_file import check_place, write_predictions
from pipeline.report.predictions import Prediction
from tests.conftest import Run, refused


@dataclass
class Echo:
    """Says of a file what stands in it, `bad` standing for an image that cannot be read; stops after `most`."""

    identity: str = "one"
    classes: Sequence[str] = ("a", "b")
    most: int = 1000
    seen: list[str] = field(default_factory=list)

    def predict(self, parts: Iterable[Sequence[Path]]) -> Iterator[Prediction]:
        for part in parts:
            for path in part:
                if len(self.seen) == self.most:
                    raise KeyboardInterrupt
                self.seen.append(path.name)
                share = path.read_text()
                if share == "bad":
                    yield Prediction(image=path.name, error="no image")
                else:
                    shares = np.array([float(share), 1 - float(share)], np.float32)
                    yield Prediction(image=path.name, classes=self.classes, probabilities=shares)


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Ten files, of which one cannot be read; a part has four."""
    monkeypatch.setattr(prediction_file, "PART_IMAGES", 4)
    (tmp_path / "in").mkdir()
    paths = [tmp_path / "in" / f"{number}.jpg" for number in range(10)]
    for number, path in enumerate(paths):
        path.write_text("bad" if number == 3 else str(number / 10))
    return paths


def write(path: Path, files: list[Path], by: Echo) -> tuple[int, int]:
    counted: list[int] = []
    done = write_predictions(path, files, by, on_images=counted.append)
    assert sum(counted) == done.images == len(files)
    assert [each.image for each in done.unread] == ["3.jpg"]
    return done.reused, len(by.seen)


def test_a_file_has_every_image_in_order(files: list[Path], tmp_path: Path) -> None:
    assert write(tmp_path / "p.parquet", files, Echo()) == (0, 10)
    rows = pq.read_table(tmp_path / "p.parquet").to_pylist()
    assert [row["image"] for row in rows] == [path.name for path in files]
    assert rows[3] == {
        "image": "3.jpg",
        "class": None,
        "probability": None,
        "error": "no image",
        "probabilities": None,
    }
    assert (rows[9]["class"], rows[9]["error"]) == ("a", None)
    assert rows[9]["probabilities"] == pytest.approx([0.9, 0.1])
    assert rows[1]["class"] == "b"
    assert {path.name for path in tmp_path.iterdir()} == {"in", "p.parquet"}


def test_what_was_finished_before_a_kill_is_kept(files: list[Path], tmp_path: Path) -> None:
    path, killed, whole = tmp_path / "p.parquet", Echo(most=9), tmp_path / "whole.parquet"
    with pytest.raises(KeyboardInterrupt):
        write(path, files, killed)
    assert not path.exists()
    assert write(path, files, Echo()) == (8, 2)
    write(whole, files, Echo())
    assert path.read_bytes() == whole.read_bytes()
    assert write(path, files, Echo()) == (10, 0)


def test_a_kill_leaves_nothing_beside_the_file(
    files: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(_: Path) -> None:
        assert {path.name for path in tmp_path.iterdir()} == {"in", "p.parquet.parts"}
        raise KeyboardInterrupt

    monkeypatch.setattr(pq, "read_table", killed)  # as parts are joined
    with pytest.raises(KeyboardInterrupt):
        write_predictions(tmp_path / "p.parquet", files, Echo(), on_images=lambda _: None)


def test_other_images_and_another_classifier_are_predicted_anew(files: list[Path], tmp_path: Path) -> None:
    path = tmp_path / "p.parquet"
    write(path, files, Echo())
    files[9].write_text("0.25")
    assert write(path, files, Echo()) == (0, 10)
    assert pq.read_table(path)["probabilities"][9].as_py() == [0.25, 0.75]
    assert write(path, files, Echo(identity="other")) == (0, 10)


def test_a_place_that_will_not_do(tmp_path: Path) -> None:
    pq.write_table(pa.table({"mine": [1]}), tmp_path / "mine.parquet")
    with pytest.raises(PredictError, match=r"mine.parquet is there and holds no predictions: choose another `out`"):
        check_place(tmp_path / "mine.parquet")
    with pytest.raises(PredictError, match=r"`out=.*p.csv` came: expected the name of a Parquet file"):
        check_place(tmp_path / "p.csv")


@pytest.mark.parametrize("name", ["p.parquet.parts", "p.parquet.parts/mine.txt"])
def test_what_is_not_a_part_is_never_removed(tmp_path: Path, name: str) -> None:
    mine = tmp_path / name
    mine.parent.mkdir(parents=True, exist_ok=True)
    mine.write_text("mine")
    with pytest.raises(PredictError, match=r"p.parquet.parts is there, and not only finished parts of predictions"):
        check_place(tmp_path / "p.parquet")


def test_parts_of_a_killed_run_are_no_hindrance(tmp_path: Path) -> None:
    (tmp_path / "p.parquet.parts").mkdir()
    for name in ("part-00000.parquet", f"{SCRATCH}part-00001.parquet"):
        (tmp_path / "p.parquet.parts" / name).touch()
    check_place(tmp_path / "p.parquet")


def test_predict_writes_a_file(
    model: Path, treehead: Run, split_photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    assert treehead("predict", model, split_photos / "test", "--out", "p.parquet") == 0
    captured = capsys.readouterr()
    assert captured.out == "p.parquet\n"
    assert "predictions: 18 images" in captured.err
    table = pq.read_table("p.parquet")
    assert set(table["class"].to_pylist()) <= {"blue", "green", "red"}
    shares = pd.Series(table["probabilities"].to_pylist()).map(sum)
    assert shares.tolist() == pytest.approx([1] * 18, abs=1e-5)
    said = refused(treehead, capsys, "predict", model, split_photos, "--out", "p.parquet", "--csv")
    assert "--csv and --out were given together: choose one" in said
