"""What an image source is: a list of labelled images and a way to read one of them. Decoding is elsewhere."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from features.errors import SourceError, some

Payload = bytes | NDArray[np.uint8]
"""An encoded image file, or pixels: (h, w) grey or (h, w, 3) RGB, uint8."""

SPLITS = ("train", "validation", "test")

UNLABELLED = -1
"""The label of an image that has none."""

ALL = "all"
"""The split of images without labels, from which nothing is learnt."""

DIGESTED_AT_ONCE = 2**14
"""Images whose listing is held as text at a time."""

LearningSplit = Literal["train", "validation"]
"""What may be learnt from: nothing that learns sees test images."""

OnListed = Callable[[int], None]
"""Called with how many images have just been found."""


@dataclass(frozen=True, kw_only=True)
class Source:
    """A set of labelled images, or, without `classes`, of images that have no labels.

    `items` has one row an image, columns `key` (str, unique, relative), `split` (one of SPLITS, or ALL), `label`
    (int32, index into `classes`, or UNLABELLED), `group` (str, the images that belong together; None: it stands alone)
    and `stamp` (str, changes when the image does; empty where it never does). `read` takes a row's index label, and
    raises OSError for an image that cannot be read. `mirror_matters` says that these are digits, letters or signs,
    which are others in the mirror. `layout` is a line on how the images were found, for the person who named them;
    empty where there was nothing to find out. `drawn` are the splits that the set did not have, and that were drawn
    from its training images; `excluded` counts the images that were left out as a person asked;
    `named` is what they were opened by.
    """

    name: str
    classes: tuple[str, ...]
    items: pd.DataFrame
    read: Callable[[int], Payload]
    mirror_matters: bool = False
    layout: str = ""
    drawn: tuple[str, ...] = ()
    excluded: int = 0
    named: str = ""

    def digest(self) -> str:
        """SHA-256 of the classes and of every image's key, split, label, group and stamp."""
        sha256 = hashlib.sha256(repr(self.classes).encode())
        items = self.items[["key", "split", "label", "group", "stamp"]]
        for start in range(0, max(1, len(items)), DIGESTED_AT_ONCE):
            part = items.iloc[start : start + DIGESTED_AT_ONCE].to_csv(index=False, header=not start)
            sha256.update(part.encode())
        return sha256.hexdigest()


def listing(
    keys: list[str],
    splits: list[str],
    labels: NDArray[np.int32] | list[int],
    stamps: list[str] | None = None,
    groups: Sequence[str | None] | None = None,
) -> pd.DataFrame:
    """Assemble a source's `items`, rows in the order given; `stamps` default to empty, `groups` to none."""
    return pd.DataFrame(
        {
            "key": pd.Series(keys, dtype=object),
            "split": pd.Series(splits, dtype=object),
            "label": np.asarray(labels, dtype=np.int32),
            "group": pd.Series(list[Any](groups or [None] * len(keys)), dtype=object),
            "stamp": pd.Series(stamps or [""] * len(keys), dtype=object),
        }
    )


def name_classes(names: list[str], order: Sequence[str] = ()) -> tuple[tuple[str, ...], list[int]]:
    """Number class names: returns the distinct names, in `order` or sorted, and each entry's index among them.

    Names that are all whole numbers sort as numbers, so that class 10 follows class 9.
    """
    distinct = set(names)
    numeric = all(name.isdecimal() and len(name) < 19 for name in distinct)
    classes = order or sorted(distinct, key=lambda name: (int(name), name) if numeric else (0, name))
    index = {name: number for number, name in enumerate(dict.fromkeys(classes))}
    return tuple(index), [index[name] for name in names]


def drop_unused_classes(source: Source) -> Source:
    """Number only the classes that some image has: a set's list of names may hold more than its images do."""
    if not source.classes:
        return source
    used, labels = np.unique(source.items["label"], return_inverse=True)
    items = source.items.assign(label=labels.astype(np.int32))
    return replace(source, classes=tuple(source.classes[label] for label in used), items=items)


def check_listed(where: str, source: Source) -> None:
    """Raise SourceError unless there are images, under distinct keys that are text."""
    items = source.items
    if items.empty:
        raise SourceError(f"{where} holds no images: expected a folder of images for each class")
    for name in (where, *source.classes, *items["key"]):
        if not name.isascii() and any("\ud800" <= sign <= "\udfff" for sign in name):
            raise SourceError(f"{name!a} is no UTF-8 name: rename the file or folder")
    twice = items["key"][items["key"].duplicated()]
    if not twice.empty:
        raise SourceError(f"{where} lists {twice.iloc[0]!r} more than once: remove the repeated rows")


def check_labelled(where: str, source: Source) -> None:
    """Raise SourceError unless there are training images, of two classes or more, as `check_listed` wants them."""
    check_listed(where, source)
    items = source.items
    if not source.classes:
        raise SourceError(
            f"{where} has no labels: a classifier learns from a folder of images for each class, or a list"
        )
    if items["label"].nunique() < 2:
        only = source.classes[int(items["label"].iloc[0])]
        raise SourceError(f"{where} holds one class only ({only!r}): a classifier needs images of two or more")
    if not (items["split"] == "train").any():
        raise SourceError(f"{where} holds no training images: put some of its images into train")


def check_learnable(where: str, items: pd.DataFrame, classes: tuple[str, ...]) -> None:
    """Raise SourceError unless each of `classes` has a training image."""
    trained = set(items.loc[items["split"] == "train", "label"])
    absent = [name for label, name in enumerate(classes) if label not in trained]
    if absent:
        raise SourceError(
            f"{where} has no training image of {len(absent)} of its {len(classes)} classes ({some(absent)}): expected "
            "one of each at least, add images, remove these classes, or raise `train_limit`"
        )
