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

    >>> few_test_images({"beech": 98, "oak": 4, "yew": 0})
    ['no test image is of yew: nothing is known of it',
     'fewer than 10 test images are of oak: what is said of it alone is uncertain']
    """
    total = sum(test.values())
    absent = [name for name, count in test.items() if not count]
    few = [name for name, count in test.items() if 0 < count < FEW_OF_A_CLASS]
    lines = [f"no test image is of {some(absent)}: nothing is known of {_them(absent)}"] if absent else []
    if total < FEW_TEST_IMAGES:
        lines.append(f"{total} test images are few: accuracies are uncertain by ten points and more, so add images")
    elif few:
        what = f"fewer than {FEW_OF_A_CLASS} test images are of {some(few)}"
        lines.append(f"{what}: what is said of {_them(few)} alone is uncertain")
    return lines


def _them(names: Sequence[str]) -> str:
    return "it" if len(names) == 1 else "them"


def _range(least: int, most: int) -> str:
    return f"{least:,}" if least == most else f"{least:,} to {most:,}"
