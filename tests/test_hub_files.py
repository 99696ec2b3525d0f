"""Repositories of the hub as they lie on a disk: which files are read, as which split, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from features.errors import SourceError
from features.sources.hub import open_hub
from features.sources.options import SourceOptions
from features.sources.registry import open_source
from features.sources.source import Source
from tests.test_hub import write_hub

PART = "00000-of-00001.parquet"


def laid_out(root: Path, *names: str) -> Path:
    """Files of these names below `root`, two rows each."""
    for name in names:
        write_hub(root / name, [0, 1], ["cat", "dog"])
    return root


def read(root: Path, config: str = "") -> Source:
    return open_hub(root, SourceOptions(config=config), lambda _: None)


def splits(source: Source) -> dict[str, set[str]]:
    return {str(split): {key.rsplit("/", 1)[0] for key in keys} for split, keys in source.items.groupby("split")["key"]}


READ: dict[str, tuple[list[str], dict[str, set[str]], str]] = {
    "data/": (
        [f"data/train-{PART}", f"data/test-{PART}"],
        {"train": {f"data/train-{PART}"}, "test": {f"data/test-{PART}"}},
        "train, test, 2 files, 2 classes",
    ),
    "a config's folder": (
        [f"plain_text/train-{PART}", f"plain_text/test-{PART}"],
        {"train": {f"plain_text/train-{PART}"}, "test": {f"plain_text/test-{PART}"}},
        "train, test, config plain_text, 2 files, 2 classes",
    ),
    "converted": (
        ["default/train/0000.parquet", "default/train/0001.parquet", "default/validation/0000.parquet"],
        {
            "train": {"default/train/0000.parquet", "default/train/0001.parquet"},
            "validation": {"default/validation/0000.parquet"},
        },
        "train, validation, config default, 3 files, 2 classes",
    ),
    "other words": (
        [f"train-{PART}", f"dev-{PART}"],
        {"train": {f"train-{PART}"}, "validation": {f"dev-{PART}"}},
        "train, dev (validation), 2 files, 2 classes",
    ),
    "evaluation": (
        [f"train-{PART}", f"evaluation-{PART}"],
        {"train": {f"train-{PART}"}, "validation": {f"evaluation-{PART}"}},
        "train, evaluation (validation), 2 files, 2 classes",
    ),
    "checksums in names": (
        ["train-00000-of-00001-b42af1f310218743.parquet"],
        {"train": {"train-00000-of-00001-b42af1f310218743.parquet"}},
        "train, 1 file, 2 classes",
    ),
    "folds": (
        ["fold_1.parquet", "fold_2.parquet", "fold_3.parquet"],
        {"train": {"fold_1.parquet"}, "validation": {"fold_2.parquet"}, "test": {"fold_3.parquet"}},
        "fold_1 (train), fold_2 (validation), fold_3 (test), 3 files, 2 classes",
    ),
    "more splits": (
        [f"train-{PART}", f"train_small-{PART}", f"test-{PART}", f"test_ood-{PART}"],
        {"train": {f"train-{PART}"}, "test": {f"test-{PART}"}},
        "train, test, 2 files, 2 classes; test_ood, train_small left out",
    ),
}


@pytest.mark.parametrize("case", READ)
def test_what_is_read(tmp_path: Path, case: str) -> None:
    names, files, said = READ[case]
    (tmp_path / "README.md").write_text("x")
    (tmp_path / ".gitattributes").write_text("x")
    source = read(laid_out(tmp_path, *names))
    assert splits(source) == files
    assert source.layout == said


REFUSED: dict[str, tuple[list[str], str]] = {
    "two configs": (
        [f"full/train-{PART}", f"mini/train-{PART}"],
        r"holds 2 configs \(full, mini\): give one of them, such as `config=full`",
    ),
    "a config beside files": (
        [f"train-{PART}", f"mini/train-{PART}"],
        r"holds 2 configs \(its top folder, mini\): give one of them",
    ),
    "two for one split": (
        [f"train-{PART}", f"val-{PART}", f"dev-{PART}"],
        r"has dev and val, all of them validation: keep one of them",
    ),
    "no split": (["images.parquet", "more.parquet"], r"does not begin with its split: expected a name such as train-"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_refused(tmp_path: Path, case: str) -> None:
    names, why = REFUSED[case]
    with pytest.raises(SourceError, match=why):
        read(laid_out(tmp_path, *names))


def test_a_config_is_chosen(tmp_path: Path) -> None:
    laid_out(tmp_path, f"full/train-{PART}", f"mini/train-{PART}")
    assert splits(read(tmp_path, "mini")) == {"train": {f"mini/train-{PART}"}}
    with pytest.raises(SourceError, match=r"has no config 'tiny': expected one of full, mini"):
        read(tmp_path, "tiny")


@pytest.mark.parametrize("given", ["default", "default/train", "default/train/0000.parquet", "default/other.parquet"])
def test_a_part_of_a_set_is_a_set(tmp_path: Path, given: str) -> None:
    laid_out(tmp_path, "default/train/0000.parquet")
    write_hub(tmp_path / "default/other.parquet", [0, 1])
    if not given.endswith("other.parquet"):
        (tmp_path / "default/other.parquet").unlink()
    assert set(splits(read(tmp_path / given))) == {"train"}


def test_one_file_is_known_for_what_it_is(tmp_path: Path) -> None:
    write_hub(tmp_path / f"train-{PART}", [0, 1] * 30, ["cat", "dog"])
    assert open_source(str(tmp_path / f"train-{PART}")).classes == ("cat", "dog")


def test_a_part_that_is_not_there_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    read(laid_out(tmp_path, "train-00000-of-00003.parquet", "train-00002-of-00003.parquet"))
    assert "train: 1 of 3 parts are not there (00001): fetch them" in caplog.text


def test_what_macos_leaves_beside_is_no_file_of_the_set(tmp_path: Path) -> None:
    laid_out(tmp_path, f"train-{PART}")
    (tmp_path / f"._train-{PART}").write_bytes(b"x")
    (tmp_path / "__MACOSX").mkdir()
    (tmp_path / f"__MACOSX/train-{PART}").write_bytes(b"x")
    assert read(tmp_path).layout == "train, 1 file, 2 classes"
