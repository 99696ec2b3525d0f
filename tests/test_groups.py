"""Which images belong together, as a person says it: by folder, by a column, by a mapping; and which are left out."""

from __future__ import annotations

import logging
from datetime import date
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from features.errors import SourceError
from features.sources.options import SourceOptions
from features.sources.registry import open_source
from features.sources.source import Source
from tests.conftest import COLOURS, Run, write_images


def opened(dataset: Path | str, group: str = "", exclude: Path | None = None, **options: Any) -> Source:
    return open_source(str(dataset), SourceOptions(group=group, exclude=exclude), **options)


def groups_of(source: Source) -> dict[str, str | None]:
    found = source.items.set_index("key")["group"]
    return dict(found.where(found.notna(), None))


def torn(source: Source) -> int:
    return int((source.items.groupby("group")["split"].nunique() > 1).sum())


@pytest.fixture
def patients(tmp_path: Path) -> Path:
    """Two classes of five patients with four images each, two of these in a folder of a day, and three images alone."""
    for colour in ("red", "green"):
        for patient in range(5):
            folder = tmp_path / "scans" / colour / f"{colour[0]}{patient}"
            write_images(folder, colour, 2, start=10 * patient)
            write_images(folder / "monday", colour, 2, start=10 * patient + 5)
        write_images(tmp_path / "scans" / colour, colour, 3, start=90)
    return tmp_path / "scans"


def table(photos: Path, group: list[Any], name: str = "list.csv") -> Path:
    """A list of the photos of one folder a colour with a column `patient`, its values in turn."""
    keys = sorted(path.relative_to(photos).as_posix() for path in photos.rglob("*.png"))
    rows = pd.DataFrame({"path": keys, "label": [key.split("/")[0] for key in keys]})
    rows["patient"] = (group * len(keys))[: len(keys)]
    path = photos / name
    rows.to_parquet(path) if path.suffix == ".parquet" else rows.to_csv(path, index=False)
    return path


def test_images_of_a_sub_folder_are_a_group(patients: Path) -> None:
    source = opened(patients, "folder")
    found = groups_of(source)
    assert found["red/r3/030.png"] == found["red/r3/monday/035.png"] == "red/r3"
    assert found["red/090.png"] is None
    assert source.layout.endswith("10 groups by folder, 6 images in none")
    assert torn(source) == 0
    assert set(source.items["split"]) == {"train", "validation", "test"}


def test_sub_folders_of_one_name_in_two_splits_are_one_group(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for split in ("train", "test"):
        for colour in ("red", "green"):
            write_images(tmp_path / "set" / split / colour / "p1", colour, 4)
            write_images(tmp_path / "set" / split / colour, colour, 20, start=50)
    source = opened(tmp_path / "set", "folder")
    assert set(groups_of(source).values()) == {"red/p1", "green/p1", None}
    assert "2 groups of images are in several of its splits (green/p1, red/p1)" in caplog.text
    assert {key.split("/")[0] for key in source.items.query("split == 'test'")["key"]} == {"test"}


@pytest.mark.parametrize("name", ["list.csv", "list.parquet"])
def test_a_column_of_a_list_names_groups(name: str, photos: Path) -> None:
    numbers = [float(number) for number in range(1, 12)]
    source = opened(table(photos, [*numbers, None], name), "patient")
    found = groups_of(source)
    assert {*found.values()} == {*(str(number) for number in range(1, 12)), None}
    assert source.layout.endswith("11 groups by patient, 10 images in none")
    assert torn(source) == 0
    assert source.classes == tuple(sorted(COLOURS))


def test_whole_numbers_and_dates_are_groups_by_their_text(photos: Path) -> None:
    dates = opened(table(photos, [date(2024, 5, day) for day in range(1, 9)], "list.parquet"), "patient")
    assert "2024-05-03" in set(groups_of(dates).values())
    mixed = opened(table(photos, ["1", "1.0", "2.50", "x ", ""]), "patient")
    assert set(groups_of(mixed).values()) == {"1", "2.50", "x", None}


def test_a_group_column_is_no_label(photos: Path) -> None:
    path = table(photos, list(range(9)))
    pd.read_csv(path).rename(columns={"path": "id", "label": "breed"}).to_csv(path, index=False)
    assert opened(path, "patient").classes == tuple(sorted(COLOURS))


@pytest.mark.parametrize("name", ["list.csv", "list.parquet"])
def test_an_unknown_column_lists_those_there_are(name: str, photos: Path) -> None:
    message = rf"{name} has the columns path, label, patient: expected 'subject', as `group=subject` says"
    with pytest.raises(SourceError, match=message):
        opened(table(photos, [1], name), "subject")


def test_a_column_of_the_hubs_files_names_groups(photos: Path) -> None:
    paths = sorted(photos.rglob("*.png"))
    columns: dict[str, list[Any]] = {
        "image": [{"bytes": path.read_bytes(), "path": path.name} for path in paths],
        "label": [path.parent.name for path in paths],
        "site": [number % 7 or None for number in range(len(paths))],
    }
    folder = photos.parent / "hub"
    folder.mkdir()
    pq.write_table(pa.table(columns), folder / "train.parquet")
    source = opened(folder, "site")
    assert set(groups_of(source).values()) == {"1", "2", "3", "4", "5", "6", None}
    assert torn(source) == 0
    with pytest.raises(SourceError, match=r"train.parquet has the columns image, label, site: expected 'patient'"):
        opened(folder, "patient")
    with pytest.raises(SourceError, match=r"has records in the column 'image': expected one group a row"):
        opened(folder, "image")


def test_what_has_no_such_groups_says_so(photos: Path) -> None:
    with pytest.raises(SourceError, match=r"`group=patient` says nothing about digits, a known set: leave it out"):
        opened("digits", "patient")
    with pytest.raises(SourceError, match=r"`group=patient` says nothing about .*photos, a folder of images: exp"):
        opened(photos, "patient")
    with pytest.raises(SourceError, match=r"`group=folder`, but no class of .*photos has sub-folders: leave it out"):
        opened(photos, "folder")


def test_near_images_are_grouped_by_a_mapping(photos: Path) -> None:
    near = {f"red/{number:03d}.png": f"{number // 4}" for number in range(40)}
    source = opened(photos, "near", near=near)
    assert groups_of(source) == {key: near.get(key) for key in source.items["key"]}
    assert torn(source) == 0
    assert source.layout.endswith("10 groups by near, 80 images in none")
    with pytest.raises(SourceError, match="`group=near` came, but nothing here tells which images are alike"):
        opened(photos, "near")


@pytest.mark.parametrize("name", ["keys.txt", "findings.csv", "keys.parquet", "semicolons.csv"])
def test_images_are_left_out_before_splits_are_drawn(
    name: str, photos: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    keys = ["red/003.png", "blue/011.png", "red/003.png", "red/none.png"]
    rows = pd.DataFrame({"code": "double", "key": keys, "other": "green/001.png", "score": 0.5})
    if name == "keys.parquet":
        rows.to_parquet(tmp_path / name)
    elif name == "keys.txt":
        (tmp_path / name).write_text("\r\n".join(keys))
    else:
        rows.to_csv(tmp_path / name, index=False, sep=";" if "semi" in name else ",")
    with caplog.at_level(logging.WARNING):
        source = opened(photos, exclude=tmp_path / name)
    assert source.excluded == 2
    assert len(source.items) == 118
    assert not set(keys) & set(source.items["key"])
    assert caplog.messages == [f"{tmp_path / name} names 1 key that {photos} has not: red/none.png"]
    (photos / "red" / "003.png").unlink()
    (photos / "blue" / "011.png").unlink()
    assert source.items.drop(columns="stamp").to_csv(index=False) == opened(photos).items.drop(columns="stamp").to_csv(
        index=False
    )


def test_leaving_out_a_class_or_all(photos: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    keys = [path.relative_to(photos).as_posix() for path in photos.rglob("*.png")]
    (tmp_path / "red").write_text("\n".join(key for key in keys if key.startswith("red/")))
    assert opened(photos, exclude=tmp_path / "red").classes == ("blue", "green")
    assert caplog.messages == [f"{tmp_path / 'red'} leaves no image of 1 classes: red"]
    (tmp_path / "all").write_text("\n".join(keys))
    with pytest.raises(SourceError, match=r"`exclude=.*all` names all 120 images of .*photos: leave some of them"):
        opened(photos, exclude=tmp_path / "all")


@pytest.mark.parametrize("name", ["nothing.csv", "nothing.parquet", "other.parquet", "torn.csv"])
def test_a_file_of_keys_that_cannot_be_read(name: str, photos: Path, tmp_path: Path) -> None:
    pd.DataFrame({"path": ["a"]}).to_parquet(tmp_path / "other.parquet")
    (tmp_path / "torn.csv").write_text('code,key\nodd,"a')
    with pytest.raises(SourceError, match=rf"`exclude=.*{name}` cannot be read \(.*\): expected a CSV or Parquet file"):
        opened(photos, exclude=tmp_path / name)


def test_the_command_line_says_what_was_left_out(
    patients: Path, tmp_path: Path, treehead: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "bad.txt").write_text("red/090.png\n")
    small = ("--backbone", "resnet18", "--weights", "random", "--image-size", "32", "--xgb.rounds", "2")
    assert treehead("features", patients, *small[:6]) == 0
    assert treehead("xgb", patients, *small, "--group", "folder", "--exclude", tmp_path / "bad.txt") == 0
    said = capsys.readouterr().err
    assert "left out: 1 image, as --exclude says" in said
    assert "10 groups by folder, 5 images in none" in said
    (card,) = (tmp_path / "artifacts").glob("models/*/xgb-*/xgb.json")
    assert '"excluded": 1' in card.read_text()
    assert [line for line in said.splitlines() if line.startswith("features: ")][-1].endswith(" images, reused")


def test_a_file_without_keys_leaves_nothing_out(photos: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "none.csv").write_text("code,key\n")
    assert opened(photos, exclude=tmp_path / "none.csv").excluded == 0
    assert caplog.messages == [f"{tmp_path / 'none.csv'} names no images, so none is left out"]


def test_too_few_groups_for_three_splits_are_said(photos: Path) -> None:
    with pytest.raises(SourceError, match=r"1 group of them by `group`, too few to leave any for validation: add"):
        opened(table(photos, ["yes", "no"]), "patient")
