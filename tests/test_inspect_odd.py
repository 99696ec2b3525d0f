"""Sets that are odd to inspect: without labels, of one picture alone, of fewer groups than folds."""

from __future__ import annotations

import shutil
from pathlib import Path

import pandas as pd
import pytest

from tests.conftest import COLOURS, Run, write_images

SMALL = ("--backbone", "resnet18", "--image-size", "32", "--weights", "random")


def listed(folder: Path) -> pd.DataFrame:
    (path,) = (folder / "artifacts" / "inspect").glob("*/findings.csv")
    return pd.read_csv(path)


def test_images_without_labels_have_doubles(tmp_path: Path, treehead: Run, capsys: pytest.CaptureFixture[str]) -> None:
    for start, colour in enumerate(COLOURS):
        write_images(tmp_path / "photos", colour, 12, start=100 * start)
    shutil.copy(tmp_path / "photos" / "003.png", tmp_path / "photos" / "copy.png")
    assert treehead("inspect", tmp_path / "photos", *SMALL, "--fail-on", "double") == 1
    assert "labels are not looked at: there are none" in capsys.readouterr().err
    doubles = listed(tmp_path).query("code == 'double'")
    assert doubles[["key", "other", "split"]].to_numpy().tolist() == [["copy.png", "003.png", "all"]]
    assert doubles["label"].isna().all()


def test_a_set_of_one_picture_is_looked_at(tmp_path: Path, treehead: Run, capsys: pytest.CaptureFixture[str]) -> None:
    write_images(tmp_path, "red", 1)
    for name in ("a", "b"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number in range(12):
            shutil.copy(tmp_path / "000.png", tmp_path / "photos" / name / f"{number}.png")
    assert treehead("inspect", tmp_path / "photos", *SMALL) == 0
    assert "too few different images for folds" in capsys.readouterr().err
    found = listed(tmp_path)
    assert {"leak", "conflict"} <= set(found["code"])
    assert set(found.query("code in ('conflict', 'leak', 'double')")["key"]) | {"a/0.png"} >= {"a/1.png", "b/1.png"}


def test_fewer_groups_than_folds(photos: Path, tmp_path: Path, treehead: Run) -> None:
    keys = sorted(path.relative_to(photos).as_posix() for path in photos.rglob("*.png"))
    rows = [(key, key.split("/")[0], ("train", "test", "validation")[n % 3], n % 4) for n, key in enumerate(keys)]
    pd.DataFrame(rows, columns=["path", "label", "split", "site"]).to_csv(photos / "list.csv", index=False)
    assert treehead("inspect", photos / "list.csv", *SMALL, "--group", "site") == 0
    assert set(listed(tmp_path).query("code == 'group'")["split"]) == {"test"}
