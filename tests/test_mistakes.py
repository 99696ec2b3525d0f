from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from features.table.joined import JoinedTable
from features.table.table import Rows
from pipeline.report.mistakes import FEW_CLASSES, FOREMOST, MOST, OF_A_PAIR, PAIRS, find_mistakes


class OfRows(JoinedTable):
    """Training rows that are in memory."""

    def __init__(self, rows: Rows) -> None:
        self._rows = rows

    def batches(self, split: str, size: int = 2) -> Iterator[Rows]:
        """Two rows at a time."""
        assert split == "train"
        for start in range(0, len(self._rows), size):
            chosen = slice(start, start + size)
            yield Rows(keys=self._rows.keys[chosen], x=self._rows.x[chosen], y=self._rows.y[chosen])


def rows(names: list[str], x: list[list[float]], y: list[int]) -> Rows:
    return Rows(keys=np.array(names, object), x=np.array(x, np.float32), y=np.array(y, np.int32))


def table(*names: str) -> OfRows:
    angles = np.linspace(0, np.pi / 2, len(names))
    x = np.stack([np.cos(angles), np.sin(angles)], axis=1) * np.arange(1, len(names) + 1)[:, None]
    return OfRows(rows(list(names), x.tolist(), list(range(len(names)))))


def test_the_most_confident_mistakes_come_first_with_the_nearest_training_images() -> None:
    probabilities = np.array([[0.9, 0.1], [0.4, 0.6], [0.05, 0.95], [0.2, 0.8]], np.float32)
    tested = rows(["right", "unsure", "sure", "right too"], [[1, 0], [1, 0.1], [0, 9], [1, 1]], [0, 0, 0, 1])
    sure, unsure = find_mistakes(probabilities, tested, table("a", "b", "c", "d", "e"))
    assert (sure.key, sure.true, sure.predicted) == ("sure", 0, 1)
    assert sure.probability == pytest.approx(0.95)
    assert [each.key for each in sure.alike] == ["e", "d", "c"]
    assert [each.key for each in unsure.alike] == ["a", "b", "c"]
    assert [each.label for each in unsure.alike] == [0, 1, 2]


def test_an_image_is_not_like_itself_and_two_are_all_there_are() -> None:
    (mistake,) = find_mistakes(np.array([[0.1, 0.9]], np.float32), rows(["b"], [[1, 1]], [0]), table("a", "b", "c"))
    assert sorted(each.key for each in mistake.alike) == ["a", "c"]


def test_who_is_never_wrong_has_no_mistakes() -> None:
    tested = rows(["a"], [[1, 0]], [0])
    assert find_mistakes(np.array([[0.9, 0.1]], np.float32), tested, table("a", "b")) == ()


def test_of_many_mistakes_some_of_each_confusion_are_kept() -> None:
    count = 1000
    y = np.where(np.arange(count) < 900, 0, 1 + np.arange(count) % 30).astype(np.int32)
    probabilities = np.full((count, 32), 0.001, np.float32)
    probabilities[:, 31] = np.linspace(0.9, 0.5, count)
    tested = Rows(keys=np.arange(count).astype(str).astype(object), x=np.ones((count, 2), np.float32), y=y)
    found = find_mistakes(probabilities, tested, table("a", "b"))
    assert [int(each.key) for each in found[:FOREMOST]] == list(range(FOREMOST))
    assert {each.true for each in found} == set(range(31))
    assert len(found) == FOREMOST + 100 <= MOST
    alike = find_mistakes(probabilities, Rows(keys=tested.keys, x=tested.x, y=np.zeros(count, np.int32)), table("a"))
    assert len(alike) == FOREMOST > OF_A_PAIR


@pytest.mark.parametrize(("classes", "kept"), [(FEW_CLASSES, MOST), (FEW_CLASSES + 1, PAIRS)])
def test_no_more_are_kept_than_a_page_can_show(classes: int, kept: int) -> None:
    true, predicted = np.divmod(np.arange(classes**2), classes)
    probabilities = np.full((classes**2, classes), 0.001, np.float32)
    probabilities[np.arange(classes**2), predicted] = 0.9
    keys, x = np.arange(classes**2).astype(str).astype(object), np.ones((classes**2, 2), np.float32)
    assert len(find_mistakes(probabilities, Rows(keys=keys, x=x, y=true.astype(np.int32)), table("a"))) == kept
