"""Train, validation and test, decided once. What a source does not give is taken from its training images."""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from features.errors import SourceError, some
from features.sources.source import SPLITS
from features.storage import hashed

logger = logging.getLogger(__name__)

TEST_SHARE = 0.2
VALIDATION_SHARE = 0.1

FEW = 12
"""A second validation image among so many would be above its share."""

GOLDEN = np.uint64(0x9E3779B97F4A7C15)
"""2**64 divided by the golden ratio."""

_Counts = NDArray[np.int64]

_NUMBERED = re.compile(r"(.*?)([0-9]{1,18})([^0-9]*(?:\.[^./]*)?)", re.DOTALL)


def complete_splits(
    items: pd.DataFrame, train_limit: int | None, seed: int, splits: Sequence[str] = SPLITS
) -> pd.DataFrame:
    """Add those of `splits` that are missing, keep `train_limit` training images, and order rows by split and key.

    Without a test split, TEST_SHARE of each class's training images become one; then training is cut to `train_limit`
    images; then, without a validation split, VALIDATION_SHARE of what is left becomes one, so that the limit counts
    every labelled image that a classifier may learn from. Splits that are given stay as they are.

    Each image has a draw (see `_draws`), and a class's images are put in its order: the first of them are test, the
    next validation, the others train. How many, is how many have a draw below the share, within the bounds of `_quota`:
    two images are enough for a test image, three for one of each split. docs/images.md says what comes of that when
    images are added. Where images have groups, whole groups are drawn, by their names (see `_GroupDraw`).

    >>> keys = [f"{number:04d}.jpg" for number in range(1000)]
    >>> items = pd.DataFrame({"key": keys, "split": "train", "label": 0, "group": None})
    >>> complete_splits(items, None, seed=0)["split"].value_counts().to_dict()
    {'train': 720, 'test': 200, 'validation': 80}
    >>> complete_splits(items[:14], None, seed=0)["split"].value_counts().to_dict()
    {'train': 9, 'test': 4, 'validation': 1}
    >>> complete_splits(items, 100, seed=0)["split"].value_counts().to_dict()
    {'test': 200, 'train': 91, 'validation': 9}
    """
    ranges = _ranges(missing_splits(items, splits))
    items = items.sort_values("key")  # all that sort after this are stable: images of one draw are in this order
    train = items.loc[items["split"] == "train", ["key", "label"]]
    grouped = bool(items["group"].notna().any())
    unit = items["group"].fillna(items["key"])
    items = items.assign(unit=unit, draw=_named(items.assign(key=unit))["draw"] if grouped else _draws(train, ranges))
    move = _move_groups if grouped else _move
    if "test" in ranges:
        move(items, "test", TEST_SHARE, ranges)
    if train_limit is not None:
        items = _limit_training(items, train_limit, seed)
    if "validation" in ranges:
        move(items, "validation", VALIDATION_SHARE, ranges)
    items["split"] = pd.Categorical(items["split"], categories=SPLITS, ordered=True)
    items = items.drop(columns=["draw", "unit"]).sort_values("split", kind="stable")
    items["split"] = items["split"].astype(object)
    return items


def missing_splits(items: pd.DataFrame, splits: Sequence[str] = SPLITS) -> tuple[str, ...]:
    """Those of `splits` that a source does not give, and that are drawn from its training images."""
    given = set(items["split"].unique())
    return tuple(split for split in ("test", "validation") if split in splits and split not in given)


def check_groups(where: str, items: pd.DataFrame, classes: Sequence[str], drawn: Sequence[str]) -> None:
    """Raise SourceError where a class cannot be both learnt and tested, as one group has all its images.

    A warning says how many groups are in several splits, where these were given.
    """
    splits = items.groupby("group")["split"].nunique()
    if (splits > 1).any():
        logger.warning(
            "%s: %d groups of images are in several of its splits (%s): the test is too kind",
            where,
            (splits > 1).sum(),
            some(splits.index[splits > 1].tolist()),
        )
    train = items[items["split"] == "train"]
    units = train["group"].fillna(train["key"]).groupby(train["label"]).agg(["size", "nunique", "first"])
    held = units[(units["nunique"] == 1) & (units["size"] > 1)]
    if "test" in drawn and not held.empty:
        raise SourceError(
            f"{where} has all {held['size'].iloc[0]} images of the class {classes[int(held.index[0])]!r} in the group "
            f"{held['first'].iloc[0]!r}, so that it cannot be both learnt and tested: add images of other groups, give "
            "another `group`, or leave the class out"
        )


def split_table(items: pd.DataFrame, classes: Sequence[str]) -> pd.DataFrame:
    """How many images each class has in each split: (classes, splits) int, by name."""
    counts = pd.crosstab(items["label"], items["split"])
    splits = [split for split in SPLITS if split in counts]
    table = counts.reindex(index=range(len(classes)), columns=splits, fill_value=0)
    return table.set_axis(pd.Index(classes, name="class"), axis=0)


def _ranges(drawn: Sequence[str]) -> dict[str, tuple[float, float]]:
    """Which draws mean which split, of those that are drawn: from, and to below; all higher ones mean train."""
    ranges = {"test": (0.0, TEST_SHARE)} if "test" in drawn else {}
    if "validation" in drawn:
        start = TEST_SHARE if ranges else 0.0
        ranges["validation"] = (start, start + (1 - start) * VALIDATION_SHARE)
    return ranges


def _move(items: pd.DataFrame, split: str, share: float, ranges: dict[str, tuple[float, float]]) -> None:
    """Move about `share` of each class's training rows to `split`, in place: the lowest draws, as many as `_quota`."""
    train = items.loc[items["split"] == "train", ["label", "draw"]].sort_values(["label", "draw"])
    by_class = train.groupby("label")
    size = by_class["draw"].transform("size").to_numpy()
    drawn = (train["draw"] < ranges[split][1]).groupby(train["label"]).transform("sum").to_numpy()
    others = len(ranges) if split == "test" else 1
    moved = by_class.cumcount().to_numpy() < _quota(size, drawn, share, others)
    items.loc[train.index[moved], "split"] = split


def _move_groups(items: pd.DataFrame, split: str, share: float, ranges: dict[str, tuple[float, float]]) -> None:
    """As `_move`, but whole groups, in place."""
    train = items[items["split"] == "train"]
    chosen = _GroupDraw(train, share, len(ranges) if split == "test" else 1).below(ranges[split][1])
    items.loc[train.index[train["unit"].isin(chosen)], "split"] = split


class _GroupDraw:
    """Groups, and images that stand alone, drawn whole out of `train` (unit, label, draw).

    They are taken by their draws, but of each class as near `share` of its images as is asked: to within twice chance's
    standard deviation, or half the share where this is less, but one image at least. Groups too large for that stay in
    train, unless a class has no other. Of each class a group is left for each of the `others`, first of all for train.
    """

    def __init__(self, train: pd.DataFrame, share: float, others: int) -> None:
        sizes = train.groupby(["draw", "unit", "label"]).size()
        self._parts: dict[str, dict[int, int]] = {}
        self._draws: dict[str, float] = {}
        for draw, unit, label, size in sizes.reset_index(name="size").itertuples(index=False):
            self._parts.setdefault(unit, {})[label] = size
            self._draws[unit] = draw
        units = sizes.groupby("label").size()
        wanted, squares = share * sizes.groupby("label").sum(), (sizes**2).groupby("label").sum()
        slack = np.maximum(1, np.minimum(2 * np.sqrt(share * (1 - share) * squares), wanted / 2))
        self._least = np.maximum(1, np.ceil(wanted - slack)).to_dict()
        self._most = np.floor(wanted + slack).to_dict()
        self._spare: dict[Any, int] = (units - np.clip(units - 1, 1, others)).to_dict()
        self._taken: list[str] = []
        self._images: Counter[int] = Counter()
        self._units: Counter[int] = Counter()

    def below(self, limit: float) -> list[str]:
        """The names of those that are taken, of whom most have a draw below `limit`."""
        for unit, part in self._parts.items():
            wanted = self._draws[unit] < limit or any(self._images[label] < self._least[label] for label in part)
            if wanted and self._fits(unit):
                self._take(unit)
        for label in [label for label, spare in self._spare.items() if spare and not self._images[label]]:
            left = [unit for unit, part in self._parts.items() if label in part and self._may_go(unit)]
            if left and not self._images[label]:
                self._take(min(left, key=lambda unit: sum(self._parts[unit].values())))
        return self._taken

    def _fits(self, unit: str) -> bool:
        part = self._parts[unit]
        return self._may_go(unit) and all(
            self._images[label] + size <= self._most[label] for label, size in part.items()
        )

    def _may_go(self, unit: str) -> bool:
        return all(self._units[label] < self._spare[label] for label in self._parts[unit])

    def _take(self, unit: str) -> None:
        self._taken.append(unit)
        self._images.update(self._parts[unit])
        self._units.update(self._parts[unit].keys())


def _quota(size: _Counts, drawn: _Counts, share: float, others: int) -> _Counts:
    """How many of `size` rows to take: as many as are `drawn`, but one at least, and as near `share` as is asked.

    That is to within one, or twice chance's standard deviation where this is more. One row is left for each of the
    `others`, first of all for train.
    """
    wanted = share * size
    slack = np.maximum(1, 2 * np.sqrt(wanted * (1 - share)))
    count = np.clip(drawn, np.maximum(1, np.ceil(wanted - slack)), np.floor(wanted + slack)).astype(np.int64)
    return np.minimum(count, size - np.clip(size - 1, 1, others))


def _limit_training(items: pd.DataFrame, limit: int, seed: int) -> pd.DataFrame:
    """Keep `limit` training rows, one of each class and then in proportion, chosen by a seeded hash of the key."""
    if limit < 2:
        raise SourceError(f"`train_limit={limit}` leaves nothing to learn from: give 2 or more")
    train = items[items["split"] == "train"]
    draw = train["key"].map(lambda key: hashed(f"limit:{seed}:{key}"))
    by_class = draw.groupby(train["label"])
    # A class's rows spread evenly over (0, 1); the lowest `limit` of all then hold every class in proportion.
    rank = by_class.rank(method="first")
    order = pd.DataFrame({"more": rank > 1, "quantile": (rank - 0.5) / by_class.transform("size"), "draw": draw})
    order = order.sort_values(["more", "quantile", "draw"])
    dropped = order.index[limit:]
    return items.drop(index=dropped)


def _draws(images: pd.DataFrame, ranges: dict[str, tuple[float, float]]) -> pd.Series:
    """A draw in [0, 1] for each of `images` (key, label), which its key alone decides but for a class's first few.

    Where most of a class's images are named alike but for a number, the first of them by number is train, the second
    test, the third validation, and no other of the first FEW is: those that are added later, with higher numbers, find
    them so.
    """
    named = _named(images)
    of_class = named.groupby("label")["draw"].transform("size")
    alike = named[2 * named.groupby(["label", "series"])["draw"].transform("size") > of_class]
    place = alike.sort_values(["label", "number"]).groupby("label").cumcount()
    draw = named["draw"].copy()
    low, high = ranges.get("validation", (0.0, 0.0))
    few = draw[place.index[place < FEW]]
    draw[few.index[(few >= low) & (few < high)]] = 1.0
    for at, start in enumerate([1.0, *(low for low, _ in ranges.values())]):
        draw[place.index[place == at]] = start
    return draw


def _named(images: pd.DataFrame) -> pd.DataFrame:
    """Each image's label, series and number in it, and the draw that its key decides.

    The draws of a series are steps of the golden ratio from a place that its name decides: those of consecutive numbers
    are spread evenly, and meet shares more closely than chance does (Knuth, The Art of Computer Programming, 6.4).
    """
    series, number = np.empty(len(images), np.int64), np.empty(len(images), np.int64)
    names: dict[str, int] = {}
    for row, key in enumerate(images["key"]):
        name, number[row] = _series(key)
        series[row] = names.setdefault(name, len(names))
    starts = np.array([hashed(name) for name in names], np.uint64)
    draw = (starts[series] + number.astype(np.uint64) * GOLDEN) / 2**64  # whole numbers of 64 bits go round
    columns = {"label": images["label"], "series": series, "number": number, "draw": draw}
    return pd.DataFrame(columns, index=images.index)


def _series(key: str) -> tuple[str, int]:
    """A name without its number, and that; the whole name where it has none."""
    numbered = _NUMBERED.fullmatch(key)
    return (f"{numbered[1]}\0{numbered[3]}", int(numbered[2])) if numbered else (key, 0)
