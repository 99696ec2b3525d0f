"""Image sources: what a data set is named by, opened as a list of labelled images with their splits decided."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from features.errors import SourceError, counted, some
from features.sources.folders import open_folder
from features.sources.hub import looks_like_hub, open_hub
from features.sources.layout.tree import holds_data
from features.sources.manifests import open_manifest, read_keys
from features.sources.named import KNOWN, open_named
from features.sources.options import NEAR, SourceOptions
from features.sources.source import (
    ALL,
    SPLITS,
    OnListed,
    Source,
    check_labelled,
    check_learnable,
    check_listed,
    drop_unused_classes,
)
from features.sources.splits import check_groups, complete_splits, missing_splits
from features.sources.tars import looks_like_tars, open_tars
from features.stores import listed_once, place

logger = logging.getLogger(__name__)

ANYTHING = SourceOptions()


@dataclass(frozen=True, kw_only=True)
class Kind:
    """How it is told that a path is an image set of a kind, how it is opened, and how messages call it.

    `open` takes the path, what else is asked, and what is told how many images were found; `takes` are the options that
    only some kinds have a use for.
    """

    said: str
    is_meant: Callable[[Path], bool]
    open: Callable[[Path, SourceOptions, OnListed], Source]
    takes: tuple[str, ...]


KINDS = (
    Kind(
        said="a folder of WebDataset tars, or one", is_meant=looks_like_tars, open=open_tars, takes=("columns", "group")
    ),
    Kind(
        said="a folder of Hugging Face image Parquet files",
        is_meant=looks_like_hub,
        open=open_hub,
        takes=("columns", "config", "group"),
    ),
    Kind(said="a folder of images", is_meant=lambda path: path.is_dir(), open=open_folder, takes=("layout", "group")),
    Kind(
        said="a CSV or Parquet manifest",
        is_meant=lambda path: path.is_file(),
        open=open_manifest,
        takes=("columns", "group"),
    ),
)
"""Where images come from that are not known by name; the first kind that is meant is opened."""


def open_source(
    dataset: str,
    asked: SourceOptions = ANYTHING,
    *,
    seed: int = 0,
    splits: Sequence[str] = SPLITS,
    on_listed: OnListed = lambda _: None,
    unlabelled: bool = False,
    near: Mapping[str, str] | None = None,
) -> Source:
    """Open an image set by name, or from a folder, a manifest file or a folder of Parquet files.

    `splits` are those that are needed: of a set that lacks one of them, part of training becomes it. `seed` is that of
    `train_limit`; `on_listed` is called with how many images have just been found. With `unlabelled`, images without
    labels will do: they are of the split ALL. With the group `near` those images are in one that have the same name in
    `near`, by key. Raises SourceError.

    >>> source = open_source("photos")
    >>> source.classes, source.items["split"].value_counts().to_dict()
    (('beech', 'oak'), {'train': 33, 'test': 11, 'validation': 4})
    >>> source.items[["key", "split", "label"]].head(2)
                  key  split  label
    0  beech/0001.jpg  train      0
    3  beech/0004.jpg  train      0
    """
    with listed_once():
        source = replace(_open(dataset, asked, on_listed), named=dataset)
    if asked.exclude:
        source = _without(dataset, source, asked.exclude)
    if asked.group:
        source = _grouped(source, asked.group, near)
    if not source.classes and unlabelled:
        check_listed(dataset, source)
        if asked.train_limit is not None:
            raise SourceError(f"`train_limit={asked.train_limit}` came, but the images have no labels: leave it out")
        return replace(source, items=source.items.assign(split=ALL).sort_values("key"))
    source = drop_unused_classes(source)
    check_labelled(dataset, source)
    drawn = missing_splits(source.items, splits)
    check_groups(dataset, source.items, source.classes, drawn)
    items = complete_splits(source.items, asked.train_limit, seed, splits)
    check_learnable(dataset, items, source.classes)
    for split in splits:
        if not (items["split"] == split).any():
            raise _too_few(dataset, items[items["split"] == "train"], split)
    return replace(source, items=items, drawn=drawn)


def _too_few(dataset: str, train: pd.DataFrame, split: str) -> SourceError:
    """The error for a set whose training images leave none for `split`."""
    groups = train["group"].nunique()
    have = f"{dataset} has {len(train)} training images"
    if groups:
        said = f"{have}, {counted(groups, 'group')} of them by `group`, too few to leave any for {split}: "
        return SourceError(said + "add images of other groups, give another `group`, or raise `train_limit`")
    return SourceError(f"{have}, too few to leave any for {split}: add images, or raise `train_limit`")


def _without(dataset: str, source: Source, path: Path) -> Source:
    """The source without the images whose keys are in the file at `path`; raises SourceError where none is left."""
    keys, listed = read_keys(path), source.items["key"]
    left, strange = ~listed.isin(keys), sorted(keys - set(listed))
    if not keys:
        logger.warning("%s names no images, so none is left out", path)
    if strange:
        what = counted(len(strange), "key")
        logger.warning("%s names %s that %s has not: %s", path, what, dataset, some(strange))
    if not left.any():
        raise SourceError(f"`exclude={path}` names all {len(listed)} images of {dataset}: leave some of them")
    gone = set(source.items["label"]) - set(source.items.loc[left, "label"])
    if gone:
        names = [source.classes[label] for label in sorted(gone)]
        logger.warning("%s leaves no image of %d classes: %s", path, len(gone), some(names))
    return replace(source, items=source.items[left], excluded=int((~left).sum()))


def _grouped(source: Source, group: str, near: Mapping[str, str] | None) -> Source:
    """The source with the groups of `near`, if these are asked for, and a word on how many there are."""
    items = source.items
    if group == NEAR:
        if near is None:
            raise SourceError(
                "`group=near` came, but nothing here tells which images are alike: give `group=folder`, or the "
                "name of a column"
            )
        items = items.assign(group=items["key"].map(near).astype(object).where(items["key"].isin(near), None))
    alone, count = items["group"].isna().sum(), items["group"].nunique()
    said = f"{count:,} groups by {group}, {counted(int(alone), 'image')} in none"
    return replace(source, items=items, layout="; ".join(filter(None, [source.layout, said])))


def _refuse_two_meanings(dataset: str, data_dir: Path) -> None:
    """Raise SourceError for the name of a known set that is also here, but for where the sets themselves lie."""
    here = Path(dataset)
    if here.resolve().parent != data_dir.resolve() and (here.is_file() or holds_data(here)):
        raise SourceError(
            f"{dataset} is a {'file' if here.is_file() else 'folder'} here and a known set: give ./{dataset} for what "
            "is here, or rename it to have the set"
        )


def _refuse_unused(dataset: str, asked: SourceOptions, said: str, takes: Sequence[str]) -> None:
    """Raise SourceError for an option that says nothing about this kind of set."""
    for name in ("columns", "config", "layout", "group"):
        value = asked.group_column if name == "group" else getattr(asked, name)
        if value != getattr(ANYTHING, name) and name not in takes:
            raise SourceError(f"`{name}={value}` says nothing about {dataset}, {said}: leave it out")


def _open(dataset: str, asked: SourceOptions, on_listed: OnListed) -> Source:
    if dataset.lower() in KNOWN:
        _refuse_two_meanings(dataset, asked.data_dir)
        _refuse_unused(dataset, asked, "a known set", ())
        return open_named(dataset.lower(), asked.data_dir)
    root = place(dataset)
    for kind in KINDS if dataset else ():
        if kind.is_meant(root):
            _refuse_unused(dataset, asked, kind.said, kind.takes)
            return kind.open(root, asked, on_listed)
    paths = ", ".join(kind.said for kind in KINDS)
    raise SourceError(
        f"unknown data set {dataset!r}, no file or folder here: expected {paths}, or one of {', '.join(KNOWN)}"
    )
