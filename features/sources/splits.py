"""Train, validation and test, decided once. What a source does not give is taken from its training images."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from features.errors import SourceError
from features.sources.source import SPLITS

TEST_SHARE = 0.2
VALIDATION_SHARE = 0.1

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
    two images are enough for a test image, three for one of each split. The same images give the same splits anywhere.

    An added image moves no other in a class whose images are numbered on (a/001.jpg, a/002.jpg …). Of names without
    such order it moves none while the class keeps within the bounds; else the last test image becomes validation, or
    the last validation image train, or the other way round, but no test image train. No rule that sees the images alone
    can promise more: if none ever moved, two that came as the first of their class, and so are train, would both be
    train when they meet, and the class had no test image.

    >>> keys = [f"{number:04d}.jpg" for number in range(1000)]
    >>> items = pd.DataFrame({"key": keys, "split": "train", "label": 0})
    >>> complete_splits(items, None, seed=0)["split"].value_counts().to_dict()
    {'train': 720, 'test': 200, 'validation': 80}
    >>> complete_splits(items[:14], None, seed=0)["split"].value_counts().to_dict()
    {'train': 10, 'test': 3, 'validation': 1}
    >>> complete_splits(items, 100, seed=0)["split"].value_counts().to_dict()
    {'test': 200, 'train': 86, 'validation': 14}
    """
    ranges = _ranges(missing_splits(items, splits))
    items = items.sort_values("key")  # all that sort after this are stable: images of one draw are in this order
    train = items.loc[items["split"] == "train", ["key", "label"]]
    items = items.assign(draw=_draws(train, ranges))
    if "test" in ranges:
        _move(items, "test", TEST_SHARE, ranges)
    if train_limit is not None:
        items = _limit_training(items, train_limit, seed)
    if "validation" in ranges:
        _move(items, "validation", VALIDATION_SHARE, ranges)
    items["split"] = pd.Categorical(items["split"], categories=SPLITS, ordered=True)
    items = items.drop(columns="draw").sort_values("split", kind="stable")
    items["split"] = items["split"].astype(object)
    return items


def missing_splits(items: pd.DataFrame, splits: Sequence[str] = SPLITS) -> tuple[str, ...]:
    """Those of `splits` that a source does not give, and that are drawn from its training images."""
    given = set(items["split"].unique())
    return tuple(split for split in ("test", "validation") if split in splits and split not in given)


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
    draw = train["key"].map(lambda key: _uniform(f"limit:{seed}:{key}"))
    by_class = draw.groupby(train["label"])
    # A class's rows spread evenly over (0, 1); the lowest `limit` of all then hold every class in proportion.
    rank = by_class.rank(method="first")
    order = pd.DataFrame({"more": rank > 1, "quantile": (rank - 0.5) / by_class.transform("size"), "draw": draw})
    order = order.sort_values(["more", "quantile", "draw"])
    dropped = order.index[limit:]
    return items.drop(index=dropped)


def _draws(images: pd.DataFrame, ranges: dict[str, tuple[float, float]]) -> pd.Series:
    """A draw in [0, 1] for each of `images` (key, label), which its key alone decides but for a class's first three.

    Where most of a class's images are named alike but for a number, the first of them by number is train, the second
    test, the third validation: those that are added later, with higher numbers, find them so. Those that follow soon
    after one of these and would be of the same split are train instead, since its share is met.
    """
    named = _named(images)
    of_class = named.groupby("label")["draw"].transform("size")
    alike = named[2 * named.groupby(["label", "series"])["draw"].transform("size") > of_class]
    place = alike.sort_values(["label", "number"]).groupby("label").cumcount()
    draw = named["draw"].copy()
    draw[place.index[place == 0]] = 1.0
    for at, (low, high) in enumerate(ranges.values(), start=1):
        first = alike.loc[place.index[place == at]]
        since = alike["number"] - alike["label"].map(first.set_index("label")["number"])
        soon = (alike["draw"] >= low) & (alike["draw"] < high) & (since > 0) & (since < round(1 / (high - low)) - at)
        draw[soon.index[soon]] += 0.5
        draw[first.index] = low
    return draw


def _named(images: pd.DataFrame) -> pd.DataFrame:
    """Each image's label, series and number in it, and the draw that its key decides."""
    codes: dict[str, int] = {}
    series, number, draw = (np.empty(len(images), kind) for kind in (np.int64, np.int64, np.float64))
    for row, key in enumerate(images["key"]):
        name, number[row] = _series(key)
        series[row] = codes.setdefault(name, len(codes))
        draw[row] = _draw(name, number[row].item())
    columns = {"label": images["label"], "series": series, "number": number, "draw": draw}
    return pd.DataFrame(columns, index=images.index)


def _series(key: str) -> tuple[str, int]:
    """A name without its number, and that; the whole name where it has none."""
    numbered = _NUMBERED.fullmatch(key)
    return (f"{numbered[1]}\0{numbered[3]}", int(numbered[2])) if numbered else (key, 0)


def _draw(series: str, number: int) -> float:
    """A number in [0, 1) that depends on the name alone; in a series of consecutive numbers they are evenly spread.

    Of 25 numbers in a row, from a multiple of 25 on, one falls into each 25th, and of each five one into each fifth: a
    scrambled net, which meets shares more closely than chance does (Owen, Randomly permuted (t,m,s)-nets, 1995).
    """
    five, place = divmod(number, 5)
    scramble = _digest(f"5:{five}:{series}")
    fifth = ((1 + scramble[0] % 4) * place + scramble[1]) % 5
    part = (2 * five + _digest(f"25:{five // 5}:{series}")[fifth]) % 5
    within = int.from_bytes(scramble[4 + 4 * place : 8 + 4 * place], "big") / 2**32
    return (5 * fifth + part + within) / 25


@lru_cache(maxsize=4096)
def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


def _uniform(text: str) -> float:
    """A number in [0, 1) that depends on `text` alone."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") / 2**64
