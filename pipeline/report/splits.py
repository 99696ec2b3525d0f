"""How many images each split has of each class, and whether the test can say much."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from features.errors import some
from features.sources.source import SPLITS

FEW_TEST_IMAGES = 100
"""With fewer, the 95 % interval of an accuracy is up to 20 points wide or more."""

FEW_OF_A_CLASS = 10


def count_classes(items: pd.DataFrame, classes: Sequence[str]) -> pd.DataFrame:
    """Images of each class (rows, in order) in each split (columns).

    >>> items = pd.DataFrame({"split": ["train", "test", "train"], "label": [0, 0, 1]})
    >>> count_classes(items, ("beech", "oak")).loc["beech"].to_dict()
    {'train': 1, 'validation': 0, 'test': 1}
    """
    counts = pd.crosstab(items["label"], items["split"])
    counts = counts.reindex(index=range(len(classes)), columns=list(SPLITS), fill_value=0)
    return counts.set_axis(pd.Index(classes), axis="index")


def split_rows(counts: pd.DataFrame) -> list[tuple[str, str, str]]:
    """A row for each split that has images: its name, how many it has, and of a class the fewest and the most."""
    return [
        (str(split), f"{column.sum():,}", _range(int(column.min()), int(column.max())))
        for split, column in counts.items()
        if column.any()
    ]


def class_rows(counts: pd.DataFrame) -> list[tuple[str, ...]]:
    """A row for each class: its name, and how many images of it each split has."""
    return [(str(name), *(f"{count:,}" for count in row)) for name, row in counts.iterrows()]


def few_test_images(test: Mapping[str, int]) -> list[str]:
    """What to be careful of where so few test images, by class, say little; nothing where they are enough.

    >>> few_test_images({"beech": 98, "oak": 4})
    ['1 of 2 classes has fewer than 10 test images (oak): what is said of it alone is uncertain']
    """
    total, few = sum(test.values()), [name for name, count in test.items() if count < FEW_OF_A_CLASS]
    if total < FEW_TEST_IMAGES:
        return [f"{total} test images are few: accuracies are uncertain by ten points and more, so add images"]
    if few:
        have, them = ("has", "it") if len(few) == 1 else ("have", "them")
        share = f"{len(few)} of {len(test)} classes {have} fewer than {FEW_OF_A_CLASS} test images"
        return [f"{share} ({some(few)}): what is said of {them} alone is uncertain"]
    return []


def _range(least: int, most: int) -> str:
    return f"{least:,}" if least == most else f"{least:,} to {most:,}"
