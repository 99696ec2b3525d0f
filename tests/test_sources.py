from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.errors import SourceError
from features.sources import source as sources
from features.sources.options import SourceOptions
from features.sources.registry import open_source
from features.sources.source import Source, listing, name_classes


def opened(dataset: object, data_dir: Path = Path("absent")) -> Source:
    return open_source(str(dataset), SourceOptions(data_dir=data_dir))


def counts(source: Source) -> dict[str, int]:
    return {str(split): int(count) for split, count in source.items["split"].value_counts().items()}


IMAGES = st.tuples(st.text(), st.sampled_from(sources.SPLITS), st.integers(0, 2), st.none() | st.text(), st.text())


@settings(deadline=None)
@given(images=st.lists(IMAGES, max_size=9), at_once=st.integers(1, 10))
def test_the_digest_is_of_one_listing_however_much_of_it_is_held(images: list[tuple[Any, ...]], at_once: int) -> None:
    keys, splits, labels, groups, stamps = map(list, zip(*images, strict=True)) if images else ([], [], [], [], [])
    items = listing(keys, splits, labels, stamps, groups)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sources, "DIGESTED_AT_ONCE", at_once)
        found = Source(name="x", classes=("a", "b", "c"), items=items, read=lambda _: b"").digest()
    whole = items[["key", "split", "label", "group", "stamp"]].to_csv(index=False)
    assert found == hashlib.sha256(("('a', 'b', 'c')" + whole).encode()).hexdigest()


def test_class_names_that_are_numbers_sort_as_numbers() -> None:
    assert name_classes(["10", "9", "10"]) == (("9", "10"), [1, 0, 1])
    assert name_classes(["b", "10", "9"]) == (("10", "9", "b"), [2, 0, 1])


def test_unknown_name_lists_the_choices() -> None:
    with pytest.raises(
        SourceError,
        match=r"unknown data set 'mnits', no file or folder here: expected a folder.*digits, mnist.*cifar10",
    ):
        opened("mnits")


def test_a_known_name_that_is_a_folder_here(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(photos.parent)
    photos.rename("digits")
    with pytest.raises(SourceError, match=r"digits is a folder here and a known set: give \./digits for what is here"):
        opened("digits")
    assert opened("./digits").classes == ("blue", "green", "red")
    assert len(open_source("digits", SourceOptions(data_dir=photos.parent)).classes) == 10  # where the sets lie


@pytest.mark.parametrize("name", ["mnist.csv", "list.parquet", "deep/1.JPG"])
def test_a_folder_with_data_is_a_second_meaning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "digits/deep").mkdir(parents=True)
    (tmp_path / "digits" / name).write_bytes(b"x")
    with pytest.raises(SourceError, match=r"digits is a folder here and a known set"):
        opened("digits")


def test_a_folder_without_data_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "digits").mkdir()
    (tmp_path / "digits/notes.txt").write_bytes(b"x")
    assert len(opened("digits").classes) == 10


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (
            SourceOptions(columns="label=breed"),
            r"`columns=label=breed` says nothing about \S+, a folder of images: leave",
        ),
        (SourceOptions(config="full"), r"`config=full` says nothing about"),
    ],
)
def test_an_option_that_a_folder_has_no_use_for(photos: Path, options: SourceOptions, why: str) -> None:
    with pytest.raises(SourceError, match=why):
        open_source(str(photos), options)


def test_an_option_that_a_known_set_has_no_use_for() -> None:
    with pytest.raises(SourceError, match=r"`layout=splits` says nothing about digits, a known set: leave it out"):
        open_source("digits", SourceOptions(layout="splits"))
