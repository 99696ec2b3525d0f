from __future__ import annotations

from pathlib import Path

import pytest

from features.errors import SourceError
from features.sources.options import SourceOptions
from features.sources.registry import open_source
from features.sources.source import Source, name_classes


def opened(dataset: object, data_dir: Path = Path("absent")) -> Source:
    return open_source(str(dataset), SourceOptions(data_dir=data_dir))


def counts(source: Source) -> dict[str, int]:
    return {str(split): int(count) for split, count in source.items["split"].value_counts().items()}


def test_class_names_that_are_numbers_sort_as_numbers() -> None:
    assert name_classes(["10", "9", "10"]) == (("9", "10"), [1, 0, 1])
    assert name_classes(["b", "10", "9"]) == (("10", "9", "b"), [2, 0, 1])


def test_unknown_name_lists_the_choices() -> None:
    with pytest.raises(
        SourceError,
        match=r"unknown data set 'mnits', no file or folder here: expected a folder.*digits, mnist.*cifar10",
    ):
        opened("mnits")
