"""Folders as people have them, each with what is made of it: what is read, or why not."""

from __future__ import annotations

import os
import random
import re
from collections import Counter
from pathlib import Path
from typing import Literal

import pytest

from features.errors import SourceError
from features.sources.folders import files_below, open_folder
from features.sources.layout.tree import litter_of
from features.sources.layout.words import splits_of
from features.sources.options import SourceOptions
from features.sources.registry import open_source
from features.sources.source import UNLABELLED, Source
from features.storage import MARK

TWO = ("cat", "dog")


def fill(root: Path, *folders: str, count: int = 3, suffix: str = ".jpg") -> None:
    """Files that are called images, `count` in each folder; nothing here looks into them."""
    for folder in folders:
        (root / folder).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            (root / folder / f"{number}{suffix}").write_bytes(b"x")


def classes_in(*splits: str) -> list[str]:
    return [f"{split}/{name}" for split in splits for name in TWO]


def read(root: Path, layout: Literal["auto", "classes", "splits"] = "auto") -> Source:
    return open_folder(root, SourceOptions(layout=layout), lambda _: None)


def found(source: Source) -> dict[str, int]:
    return {str(split): int(count) for split, count in source.items["split"].value_counts().items()}


PLAIN = {"train": 6, "validation": 6, "test": 6}

READ: dict[str, tuple[list[str], dict[str, int], str]] = {
    "classes": ([*TWO], {"train": 6}, "2 classes, no splits, validation and test drawn from them"),
    "splits": (classes_in("train", "val", "test"), PLAIN, "train/, val/, test/, 2 classes"),
    "other words": (
        classes_in("Training", "dev", "TESTING"),
        PLAIN,
        "Training/ (train), dev/ (validation), TESTING/ (test), 2 classes",
    ),
    "eval": (
        classes_in("train", "eval"),
        {"train": 6, "validation": 6},
        "train/, eval/ (validation), test drawn from train, 2 classes",
    ),
    "affixes": (
        classes_in("Train_Data", "valset", "test-images (1)"),
        PLAIN,
        "Train_Data/ (train), valset/ (validation), test-images (1)/ (test), 2 classes",
    ),
    "numbers": (
        classes_in("dataset_train", "x_val", "test2017"),
        PLAIN,
        "dataset_train/ (train), x_val/ (validation), test2017/ (test), 2 classes",
    ),
    "a prefix of one's own": (
        classes_in("pets_train", "pets_test"),
        {"train": 6, "test": 6},
        "pets_train/ (train), pets_test/ (test), validation drawn from train, 2 classes",
    ),
    "doubles": (
        [*classes_in("seg_train/seg_train", "seg_test/seg_test"), "seg_pred/seg_pred"],
        {"train": 6, "test": 6},
        "seg_train/ (train), seg_test/ (test), validation drawn from train, 2 classes; 3 images in seg_pred/ left out",
    ),
    "a wrapper": (classes_in("a/b/train", "a/b/val", "a/b/test"), PLAIN, "in a/b/: train/, val/, test/, 2 classes"),
    "a wrapper in each split": (classes_in("train/images", "val/images", "test/images"), PLAIN, "train/, val/, test/"),
    "folds": (
        classes_in("fold1", "fold2", "fold10", "fold3"),
        {"train": 12, "validation": 6, "test": 6},
        "fold1/, fold2/ (train), fold3/ (validation), fold10/ (test), folds kept whole, 2 classes",
    ),
    "two folds": (
        classes_in("Fold 1", "Fold 2"),
        {"train": 6, "test": 6},
        "Fold 1/ (train), Fold 2/ (test), folds kept whole, validation drawn from train, 2 classes",
    ),
    "splits in classes": (
        [f"{name}/{split}" for name in TWO for split in ("train", "val", "test")],
        PLAIN,
        "train/, val/, test/ in each of 2 classes",
    ),
    "test without labels": (
        [*classes_in("train"), "test"],
        {"train": 6},
        "train/, validation and test drawn from train, 2 classes; 3 images in test/ without labels left out",
    ),
    "more without labels": (
        [*classes_in("train", "val", "test"), "unlabelled"],
        PLAIN,
        "train/, val/, test/, 2 classes; 3 images in unlabelled/ left out",
    ),
    "a class called train": (["car", "train", "bus"], {"train": 9}, "3 classes, no splits"),
    "classes of unequal depth": (
        ["cat/2023/may", "cat", "dog"],
        {"train": 9},
        "2 classes with 1 folder in them, no splits",
    ),
    "masks beside images": (
        ["cat/images", "cat/masks", "dog/images", "dog/masks"],
        {"train": 6},
        "2 classes with 2 folders in them, no splits, validation and test drawn from them; 6 files in",
    ),
    "numbered classes": (["c0", "c1"], {"train": 6}, "2 classes, no splits"),
    "numbers as classes": (["00000", "00001"], {"train": 6}, "2 classes, no splits"),
    "no classes": (["."], {"train": 3}, "no class folders: 3 images without labels"),
}


@pytest.mark.parametrize("case", READ)
def test_what_is_read(tmp_path: Path, case: str) -> None:
    folders, splits, said = READ[case]
    fill(tmp_path, *folders)
    source = read(tmp_path)
    assert found(source) == splits
    assert source.layout.startswith(said)
    assert len(source.classes) == (3 if case == "a class called train" else 0 if case == "no classes" else 2)


REFUSED: dict[str, tuple[list[str], str]] = {
    "two for one split": (classes_in("train", "val", "dev"), r"has dev and val, all of them validation: keep one"),
    "train twice": (classes_in("train", "training", "test"), r"has train and training, all of them train"),
    "a class beside train": (
        [*classes_in("train"), "car/2024", "car/2025"],
        r"holds train and car, which may be classes \(`layout=classes`\) or splits .*`layout=splits`",
    ),
    "classes of the same names": (
        classes_in("train", "test", "train_small"),
        r"holds test, train and train_small, which may be classes",
    ),
    "splits without classes": (["train", "test"], r"has test, train but no train folder with class folders in it"),
    "splits without classes, and more": (["train", "test", "extra"], r"has .* but no train folder with class folders"),
    "test alone": (classes_in("test"), r"has test but no train folder with class folders in it"),
    "a class called test, by year": (
        ["car/2024", "test/2024", "bus/2024"],
        r"has test but no train folder .*, or give `layout=classes` if all its folders are classes",
    ),
    "splits in some classes": (
        ["cat/train", "cat/test", "dog"],
        r"has test, train in cat/, but not so in dog/: .*`layout=classes`",
    ),
    "folds in train": (
        classes_in("train/fold1", "train/fold2", "test/fold1", "test/fold2"),
        r"has fold1, fold2 where classes are expected: move them up, or give `layout=classes`",
    ),
    "copies of a set": (
        classes_in("color", "grayscale", "segmented"),
        r"holds color, grayscale, segmented with cat, dog in each: these may be the classes \(`layout=classes`\), or",
    ),
    "splits in another language": (classes_in("训练集", "测试集"), r"with .* in each: these may be the classes"),
    "numbered parts": (["HAM_images_part_1", "HAM_images_part_2"], r"which by their names are no classes: give a list"),
    "parts and batches": (["images_001", "images_002", "images_003"], r"which by their names are no classes"),
    "nothing": ([], r"has no class folders: expected a folder of images for each class"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_refused(tmp_path: Path, case: str) -> None:
    folders, why = REFUSED[case]
    fill(tmp_path, *folders)
    with pytest.raises(SourceError, match=why):
        read(tmp_path)


def test_what_decides_between_two_readings(tmp_path: Path) -> None:
    fill(tmp_path, *classes_in("train"), "car/2024", "car/2025")
    assert read(tmp_path, "classes").classes == ("car", "train")
    as_splits = read(tmp_path, "splits")
    assert as_splits.classes == TWO
    assert "6 images in car/ left out" in as_splits.layout


def test_splits_that_are_asked_for_and_not_there(tmp_path: Path) -> None:
    fill(tmp_path, *TWO)
    with pytest.raises(SourceError, match=r"`layout=splits`, but \S+ holds cat, dog: expected train/"):
        read(tmp_path, "splits")


def test_class_folders_of_texts_only(tmp_path: Path) -> None:
    fill(tmp_path, *TWO)
    fill(tmp_path, "notes", suffix=".txt")
    with pytest.raises(SourceError, match=r"class folder \S+notes holds \.txt files only: put images into it"):
        read(tmp_path)


def test_an_empty_folder_beside_splits_is_said(tmp_path: Path) -> None:
    fill(tmp_path, *classes_in("train", "test"))
    (tmp_path / "val").mkdir()
    assert "; nothing in val/" in read(tmp_path).layout


def test_annotations_beside_a_lone_folder_of_images(tmp_path: Path) -> None:
    fill(tmp_path, "images/cat", "images/dog")
    fill(tmp_path, "annotations", suffix=".xml")
    assert read(tmp_path).layout == (
        "in images/: 2 classes, no splits, validation and test drawn from them; 3 other files left out"
    )


@pytest.mark.parametrize("suffix", [".txt", ".json"])
def test_shards_are_no_classes(tmp_path: Path, suffix: str) -> None:
    fill(tmp_path, "00000", "00001")
    fill(tmp_path, "00000", "00001", suffix=suffix)
    with pytest.raises(SourceError, match=r"00000, 00001, which look like img2dataset's shards .*`layout=classes`"):
        read(tmp_path)
    assert read(tmp_path, "classes").classes == ("00000", "00001")


@pytest.mark.parametrize(
    ("name", "maker"),
    [
        ("__MACOSX", "macOS"),
        ("._1.jpg", "macOS"),
        (".DS_Store", "macOS"),
        (".AppleDouble", "macOS"),
        (".Trashes", "macOS"),
        ("Icon\r", "macOS"),
        ("Thumbs.db", "Windows"),
        ("desktop.ini", "Windows"),
        ("$RECYCLE.BIN", "Windows"),
        ("System Volume Information", "Windows"),
        ("@eaDir", "Synology"),
        ("#recycle", "Synology"),
        ("#snapshot", "Synology"),
        ("@tmp", "Synology"),
        (".@__thumb", "QNAP"),
        (".ipynb_checkpoints", "Jupyter"),
        (".dropbox.cache", "Dropbox"),
        ("lost+found", "Linux"),
        (".Trash-1000", "Linux"),
        (".hidden\nname", ""),
        ("cat", None),
        ("Iconic", None),
    ],
)
def test_whose_litter_it_is(name: str, maker: str | None) -> None:
    assert litter_of(name) == maker


def test_litter_is_left_out_everywhere_and_counted(tmp_path: Path) -> None:
    fill(tmp_path, *TWO)
    fill(tmp_path, "__MACOSX/cat", "cat/@eaDir/1.jpg", "dog/.ipynb_checkpoints", ".git", count=2)
    (tmp_path / "cat/Thumbs.db").write_bytes(b"x")
    (tmp_path / "cat/notes.TXT").write_bytes(b"x")
    source = read(tmp_path)
    assert len(source.items) == 6
    assert source.layout.endswith(
        "; 2 hidden files left out; 7 files of Jupyter, macOS, Synology, Windows left out; 1 other file left out"
    )


def test_a_stray_image_beside_a_lone_folder(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    fill(tmp_path, *classes_in("set/train", "set/test"))
    (tmp_path / "example.jpg").write_bytes(b"x")
    assert found(read(tmp_path)) == {"train": 6, "test": 6}
    assert "1 file in" in caplog.text


def test_images_without_labels(tmp_path: Path) -> None:
    fill(tmp_path, ".")
    source = read(tmp_path)
    assert source.classes == ()
    assert set(source.items["label"]) == {UNLABELLED}


def test_a_class_in_both_forms_of_unicode_is_one(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    fill(tmp_path, "train/caf\u00e9", "train/tea", "test/cafe\u0301", "test/tea")
    source = read(tmp_path)
    assert source.classes == ("caf\u00e9", "tea")
    assert source.layout.endswith(", 2 classes")
    assert "one class" in caplog.text


def test_a_class_that_is_a_link_to_another_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    fill(tmp_path, *TWO)
    (tmp_path / "cat again").symlink_to("cat")
    assert len(read(tmp_path).items) == 9
    assert "cat and cat again are one folder, by way of links" in caplog.text


def test_links_among_links_come_to_an_end(tmp_path: Path) -> None:
    fill(tmp_path, *(f"class {number}" for number in range(12)), count=1)
    for here in range(12):
        for there in range(12):
            (tmp_path / f"class {here}" / f"to {there}").symlink_to(f"../class {there}")
    assert 12 * 12 <= len(read(tmp_path).items) < 12 * 12 * 12


def test_splits_made_of_links(tmp_path: Path) -> None:
    fill(tmp_path / "store", *TWO)
    fill(tmp_path / "more", *TWO)
    for split, there in (("train", "store"), ("test", "more")):
        (tmp_path / "set" / split).mkdir(parents=True)
        for name in TWO:
            (tmp_path / "set" / split / name).symlink_to(tmp_path / there / name)
    assert found(read(tmp_path / "set")) == {"train": 6, "test": 6}


def test_pipes_are_counted_and_links_to_nowhere_listed(tmp_path: Path) -> None:
    fill(tmp_path, *TWO)
    os.mkfifo(tmp_path / "cat/pipe.jpg")
    (tmp_path / "cat/gone.jpg").symlink_to("nowhere.jpg")
    (tmp_path / "cat/circle.jpg").symlink_to("circle.jpg")
    source = read(tmp_path)
    assert {"cat/gone.jpg", "cat/circle.jpg"} <= set(source.items["key"])
    assert source.layout.endswith("; 1 pipe, sockets or devices left out")


@pytest.mark.parametrize("refused", ["listed", "entered"])
def test_a_folder_that_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: str) -> None:
    fill(tmp_path, *TWO, "cat/2024")
    scandir, access = os.scandir, os.access

    def no_scandir(path: Path) -> object:
        if Path(path).name == "2024":
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    if refused == "listed":
        monkeypatch.setattr(os, "scandir", no_scandir)
    else:
        monkeypatch.setattr(os, "access", lambda path, mode: Path(path).name != "2024" and access(path, mode))
    for listed in (read, files_below):
        with pytest.raises(SourceError, match=r"cannot list \S+cat/2024 \(Permission denied\): check its permissions"):
            listed(tmp_path)


def test_listing_is_told_as_it_goes(tmp_path: Path) -> None:
    fill(tmp_path, *TWO, count=600)
    told: list[int] = []
    open_folder(tmp_path, SourceOptions(), told.append)
    assert len(told) > 2
    assert sum(told) == 1202  # two of them folders


@pytest.mark.parametrize(
    "names",
    [
        ["train_station", "test_tube"],
        ["validity", "trainer"],
        ["train_small", "test_ood"],
        ["trainval", "pretrain"],
        ["folder 1", "folder 2"],
    ],
)
def test_words_that_are_no_splits(names: list[str]) -> None:
    assert splits_of(names) == {}


def test_a_split_with_a_word_more_is_no_more_of_that_split() -> None:
    assert splits_of(["train", "train_small", "test", "test_ood"]) == {"train": "train", "test": "test"}


NAMES = ["train", "test", "val", "cat", "dog", "fold1", "fold2", "fold3", "seg_train", ".git", "@eaDir", "00000", "x y"]
FILES = ["1.jpg", "2.png", "a.txt", ".DS_Store", "noname", "Thumbs.db"]


def grow(folder: Path, drawn: random.Random, depth: int) -> None:
    """A random tree below `folder`."""
    folder.mkdir(exist_ok=True)
    for name in drawn.sample(FILES, drawn.randint(0, 3)):
        (folder / name).write_bytes(b"x")
    if depth:
        for name in drawn.sample(NAMES, drawn.randint(0, 4)):
            grow(folder / name, drawn, depth - 1)


@pytest.mark.parametrize("seed", range(150))
def test_random_trees_are_refused_or_each_file_is_accounted_for(
    tmp_path: Path, seed: int, caplog: pytest.LogCaptureFixture
) -> None:
    grow(tmp_path / "set", random.Random(seed), 4)
    try:
        source = read(tmp_path / "set")
    except SourceError:
        return
    there = sum(path.is_file() for path in (tmp_path / "set").rglob("*"))
    said = [*source.layout.split("; "), *(record.getMessage() for record in caplog.records)]
    left = Counter(
        {line: int(line.split()[0].replace(",", "")) for line in said if re.match(r"\d\S* .*(out|used)", line)}
    )
    assert len(source.items) + left.total() == there


def test_results_are_no_images(tmp_path: Path) -> None:
    fill(tmp_path, *TWO, "artifacts/compare")
    (tmp_path / "artifacts" / MARK).touch()
    source = read(tmp_path)
    assert source.classes == ("cat", "dog")
    assert source.layout.endswith("; 4 files of treehead left out")


def test_a_list_beside_splits_without_classes_is_named(tmp_path: Path) -> None:
    fill(tmp_path, "train", "test")
    (tmp_path / "train.csv").touch()
    with pytest.raises(SourceError, match=r"put the classes there, give the list that lies there \(.csv\), or"):
        read(tmp_path)


def test_a_limit_of_training_images_that_are_none(tmp_path: Path) -> None:
    fill(tmp_path, ".")
    with pytest.raises(SourceError, match=r"`train_limit=3` came, but the images have no labels: leave it out"):
        open_source(str(tmp_path), SourceOptions(train_limit=3), unlabelled=True)
