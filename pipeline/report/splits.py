"""How many images each split has of each class, and whether the test can say much."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import pandas as pd

from features.errors import some

FEW_TEST_IMAGES = 100
"""With fewer, the 95 % interval of an accuracy is up to 20 points wide or more."""

FEW_OF_A_CLASS = 10


def split_rows(counts: pd.DataFrame, drawn: Collection[str]) -> list[tuple[str, str, str]]:
    """A row for each split: its name, how many images it has, and of a class the fewest and the most.

    >>> split_rows(pd.DataFrame({"train": [70, 90], "test": [18, 22]}), drawn=["test"])
    [('train', '160', '70 to 90'), ('test, drawn from train', '40', '18 to 22')]
    """
    return [
        (
            f"{split}, drawn from train" if split in drawn else str(split),
            f"{column.sum():,}",
            _range(int(column.min()), int(column.max())),
        )
        for split, column in counts.items()
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
        lines.append(f"{total} test images are few: an accuracy may be off by ten points, so add images")
    elif few:
        what = f"fewer than {FEW_OF_A_CLASS} test images are of {some(few)}"
        lines.append(f"{what}: what is said of {_them(few)} alone is uncertain")
    return lines


def _them(names: Sequence[str]) -> str:
    return "it" if len(names) == 1 else "them"


def _range(least: int, most: int) -> str:
    return f"{least:,}" if least == most else f"{least:,} to {most:,}"
