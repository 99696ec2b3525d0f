from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.table.folded import ALONE, FoldedTable
from features.table.table import families
from tests.test_heads import toy_table

steadily = settings(deadline=None, derandomize=True, max_examples=25)


def table(groups: list[str | None], labels: list[int], images: list[str] | None = None) -> FoldedTable:
    """Training rows of these groups, labels and images' bytes."""
    keys = [f"{row:04d}.png" for row in range(len(groups))]
    index = pd.DataFrame({"key": keys, "split": "train", "label": np.array(labels, np.int32)})
    index = index.assign(sha256=images or keys, group=pd.Series(groups, dtype=object))
    return FoldedTable(toy_table(), np.zeros((len(groups), 3), np.float16), index)


@steadily
@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 3), st.integers(0, 200)), min_size=20), st.integers(2, 5))
def test_a_family_is_in_one_fold(rows: list[tuple[int, int, int]], folds: int) -> None:
    groups = [f"g{group}" if group else None for group, _, _ in rows]
    held = table(groups, [label for _, label, _ in rows], [f"{image}" for *_, image in rows])
    dealt = held.deal(folds, ("train",), seed=0)
    found = pd.DataFrame({"fold": dealt, "family": held.alike("train"), "group": groups})
    found = found[found["fold"] != ALONE]
    for name in ("family", "group"):
        assert (found.groupby(name)["fold"].nunique() <= 1).all()


@pytest.mark.parametrize("seed", range(5))
def test_classes_are_spread_as_far_as_groups_allow(seed: int) -> None:
    random = np.random.default_rng(seed)
    sizes = random.integers(1, 8, 90)
    groups = np.repeat([f"g{number}" for number in range(90)], sizes).tolist()
    labels = np.repeat(np.arange(90) % 3, sizes).tolist()
    dealt = table(groups, labels).deal(5, ("train",), seed)
    counts = pd.crosstab(dealt, np.array(labels)).to_numpy()
    assert (counts.max(axis=0) - counts.min(axis=0) <= 3).all()
    assert np.ptp(counts.sum(axis=1)) <= 7


def test_images_alone_are_dealt_in_turn() -> None:
    labels = [0] * 7 + [1] * 9 + [2] * 3
    dealt = table([None] * 19, labels).deal(4, ("train",), seed=3)
    order = pd.Series(labels).sample(frac=1, random_state=3).sort_values(kind="stable").index
    assert dealt[order].tolist() == [row % 4 for row in range(19)]


def test_what_bytes_and_groups_link_is_one_family() -> None:
    index = pd.DataFrame({"sha256": list("abbcde"), "group": ["x", "x", "y", "y", None, None]})
    assert families(index).tolist() == [0, 0, 0, 0, 1, 2]
    assert families(index.assign(group=None)).tolist() == [0, 1, 1, 2, 3, 4]
    assert len(families(index[:0])) == 0
