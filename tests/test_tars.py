"""Tars of images as a source: WebDataset's samples, img2dataset's folders, ranges, and what is wrong with some."""

from __future__ import annotations

import io
import json
import re
import tarfile
from collections.abc import Mapping
from pathlib import Path

import fsspec
import pytest

from features.errors import SourceError
from features.sources.options import SourceOptions
from features.sources.registry import open_source
from tests.test_hub import png

Files = Mapping[str, bytes]


def write_tar(path: Path, files: Files) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, content in files.items():
            about = tarfile.TarInfo(name)
            about.size, about.mtime = len(content), 1_700_000_000
            tar.addfile(about, io.BytesIO(content))


def samples(first: int, count: int, suffix: str = "cls") -> dict[str, bytes]:
    """Images of different greys, every other one a cat."""
    files: dict[str, bytes] = {}
    for number in range(first, first + count):
        label = "cat" if number % 2 else "dog"
        files[f"{number:06}.png"] = png(number)
        files[f"{number:06}.{suffix}"] = (
            label if suffix == "cls" else json.dumps({"label": label, "url": "x"})
        ).encode()
    return files


@pytest.mark.parametrize("suffix", ["cls", "json"])
def test_samples_are_images_with_their_labels(tmp_path: Path, suffix: str) -> None:
    write_tar(tmp_path / "set" / "00000.tar", samples(0, 20, suffix))
    write_tar(tmp_path / "set" / "00001.tar", samples(20, 20, suffix))
    source = open_source(str(tmp_path / "set"))
    assert source.classes == ("cat", "dog")
    assert source.layout == f"train, 2 tars, label in {'cls' if suffix == 'cls' else 'label'}, 2 classes"
    rows = source.items.set_index("key")
    assert len(rows) == 40
    assert rows["label"].to_dict()["00001.tar/000021.png"] == source.classes.index("cat")
    for row, key in enumerate(source.items["key"].sort_index()):
        assert source.read(row) == png(int(key[-10:-4]))


def test_the_split_is_the_name_of_the_tar_or_of_its_folder(tmp_path: Path) -> None:
    for split, first in {"train": 0, "val": 30, "extra": 60}.items():
        write_tar(tmp_path / "names" / f"{split}-000.tar", samples(first, 30))
        write_tar(tmp_path / "folders" / split / "000.tar", samples(first, 30))
    for place in ("names", "folders"):
        source = open_source(str(tmp_path / place))
        assert source.layout == "train, validation, 2 tars, label in cls, 2 classes; extra left out"
        assert set(source.items.loc[source.items["key"].str.contains("val"), "split"]) == {"validation"}
        assert source.drawn == ("test",)


def test_a_range_names_some_tars_and_its_gaps_are_refused(tmp_path: Path) -> None:
    for number in (8, 9, 10, 11):
        write_tar(tmp_path / f"shards-{number:02}.tar", samples(10 * number, 10))
    source = open_source(str(tmp_path / "shards-{08..10}.tar"))
    assert source.name == "shards"
    assert {key[:13] for key in source.items["key"]} == {"shards-08.tar", "shards-09.tar", "shards-10.tar"}
    with pytest.raises(SourceError, match=re.escape("2 of the 4 files of")):
        open_source(str(tmp_path / "shards-{10..13}.tar"))


def test_a_set_is_the_same_wherever_its_tars_lie(tmp_path: Path) -> None:
    for place in ("here", "there"):
        write_tar(tmp_path / place / "set" / "00000.tar", samples(0, 30))
    here, there = (open_source(str(tmp_path / place / "set")) for place in ("here", "there"))
    assert here.digest() == there.digest()


def test_tars_in_a_store_are_read_there(tmp_path: Path) -> None:
    store = fsspec.filesystem("memory")
    for number in range(2):
        write_tar(tmp_path / "set" / f"{number:05}.tar", samples(20 * number, 20))
        store.pipe_file(f"/tars/set/{number:05}.tar", (tmp_path / "set" / f"{number:05}.tar").read_bytes())
    try:
        there, here = open_source("memory://tars/set"), open_source(str(tmp_path / "set"))
        assert there.digest() == here.digest()
        assert [there.read(row) for row in range(40)] == [here.read(row) for row in range(40)]
        assert len(open_source("memory://tars/set/{00000..00001}.tar").items) == 40
    finally:
        store.rm("/tars", recursive=True)


def test_columns_and_groups_are_taken_from_fields(tmp_path: Path) -> None:
    files: dict[str, bytes] = {}
    for number in range(40):
        files[f"{number}.left.png"], files[f"{number}.png"] = png(number), png(200)
        about = {"label": "x", "breed": f"b{number % 2}", "plot": number // 4, "tags": ["a"]}
        files[f"{number}.json"] = json.dumps(about).encode()
    write_tar(tmp_path / "set.tar", files)
    asked = SourceOptions(columns="path=left.png,label=breed", group="plot")
    source = open_source(str(tmp_path / "set.tar"), asked)
    assert source.classes == ("b0", "b1")
    assert source.items["group"].nunique() == 10
    assert source.read(3) == png(3)


def test_what_systems_leave_in_tars_is_no_image(tmp_path: Path) -> None:
    write_tar(tmp_path / "set.tar", {**samples(0, 20), "._000000.png": b"mac", "__MACOSX/000001.png": b"mac"})
    assert len(open_source(str(tmp_path / "set.tar")).items) == 20


def test_images_without_labels_will_do_where_none_are_needed(tmp_path: Path) -> None:
    write_tar(tmp_path / "00000.tar", {"a.png": png(1), "a.txt": b"a caption", "b.png": png(2)})
    source = open_source(str(tmp_path / "00000.tar"), unlabelled=True)
    assert list(source.items["split"]) == ["all", "all"]
    with pytest.raises(SourceError, match="has no labels"):
        open_source(str(tmp_path / "00000.tar"))


def test_a_folder_of_images_with_a_tar_in_it_is_a_folder_of_images(tmp_path: Path) -> None:
    write_tar(tmp_path / "set" / "backup.tar", samples(0, 2))
    for number in range(24):
        image = tmp_path / "set" / ("cat" if number % 2 else "dog") / f"{number}.png"
        image.parent.mkdir(exist_ok=True)
        image.write_bytes(png(number))
    assert len(open_source(str(tmp_path / "set")).items) == 24


@pytest.mark.parametrize(
    ("files", "cut", "said"),
    [
        (samples(0, 20), 10_241, "unexpected end of data.*fetch the file again"),
        (samples(0, 20), 10_240, "it is cut short.*fetch the file again"),
        ({**samples(0, 20), "000003.cls": b""}, 0, "has no label in 1 of 20 rows"),
        ({**samples(0, 19), "x.png": png(1)}, 0, "has no label in 1 of 20 rows"),
        ({}, 0, "holds no images"),
    ],
)
def test_what_is_wrong_is_said_in_a_line(tmp_path: Path, files: Files, cut: int, said: str) -> None:
    path = tmp_path / "set.tar"
    write_tar(path, files)
    if cut:
        path.write_bytes(path.read_bytes()[:-cut])
    with pytest.raises(SourceError, match=said):
        open_source(str(path))


def test_one_name_twice_and_packed_tars_are_refused(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "set.tar", "w") as tar:
        for _ in range(2):
            tar.addfile(tarfile.TarInfo("a.png"), io.BytesIO())
    with pytest.raises(SourceError, match=re.escape("has a.png more than once")):
        open_source(str(tmp_path / "set.tar"))
    (tmp_path / "set.tar.gz").write_bytes(b"")
    with pytest.raises(SourceError, match=re.escape("is packed, so no image can be read where it lies: unpack it")):
        open_source(str(tmp_path / "set.tar.gz"))


def test_a_tar_that_shrank_since_it_was_listed_is_an_image_that_cannot_be_read(tmp_path: Path) -> None:
    path = tmp_path / "set.tar"
    write_tar(path, samples(0, 20))
    source = open_source(str(path))
    path.write_bytes(path.read_bytes()[:1024])
    with pytest.raises(OSError, match=re.escape("set.tar ends within it")):
        source.read(19)
