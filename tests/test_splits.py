from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from features.errors import SourceError
from features.sources.source import listing
from features.sources.splits import complete_splits


def unsplit(count: int, classes: int = 2) -> pd.DataFrame:
    keys = [f"{row % classes}/{row:05d}.png" for row in range(count)]
    return listing(keys, ["train"] * count, [row % classes for row in range(count)])


def split_of(items: pd.DataFrame) -> dict[str, str]:
    return dict(zip(items["key"], items["split"], strict=True))


def test_missing_splits_take_their_share_of_training() -> None:
    shares = complete_splits(unsplit(20_000), None, 0)["split"].value_counts(normalize=True)
    assert shares["test"] == pytest.approx(0.2, abs=0.01)
    assert shares["validation"] == pytest.approx(0.08, abs=0.01)


def test_adding_images_never_moves_old_ones() -> None:
    before, after = split_of(complete_splits(unsplit(500), None, 0)), split_of(complete_splits(unsplit(700), None, 0))
    assert {key: after[key] for key in before} == before


@pytest.mark.parametrize("images", [1, 2, 3])
def test_a_class_never_loses_its_last_training_image(images: int) -> None:
    items = unsplit(images * 300, classes=300)
    before = complete_splits(items, None, 0)
    assert set(before.query("split == 'train'")["label"]) == set(range(300))
    assert (before["split"] == "train").all() == (images == 1)
    assert split_of(complete_splits(items[::-1], None, 0)) == split_of(before)


def test_adding_images_moves_none_but_a_class_s_last_training_image() -> None:
    before = complete_splits(unsplit(600, classes=300), None, 0)
    after = split_of(complete_splits(unsplit(1200, classes=300), None, 0))
    moved = before[[after[key] != split for key, split in split_of(before).items()]]
    counts = before.query("split == 'train'")["label"].value_counts()
    assert len(moved)
    assert set(moved["split"]) == {"train"}
    assert (counts[moved["label"]] == 1).all()


def test_given_splits_are_kept() -> None:
    items = listing(list("abcdef"), ["train"] * 2 + ["validation"] * 2 + ["test"] * 2, [0, 1] * 3)
    assert split_of(complete_splits(items, None, 0)) == split_of(items)


def test_rows_are_ordered_by_split_and_key_and_keep_their_index() -> None:
    items = listing(["c", "b", "a", "d"], ["test", "train", "train", "validation"], [0, 1, 0, 1])
    ordered = complete_splits(items, None, 0)
    assert ordered["key"].tolist() == ["a", "b", "d", "c"]
    assert ordered.index.tolist() == [2, 1, 3, 0]


@pytest.mark.parametrize("limit", [2, 10, 101])
def test_train_limit_is_exact_and_in_proportion(limit: int) -> None:
    labels = [0] * 600 + [1] * 300 + [2] * 100
    items = listing([f"{row}" for row in range(1000)], ["train"] * 1000, labels)
    items = pd.concat([items, listing(["v", "t"], ["validation", "test"], [0, 1])], ignore_index=True)
    train = complete_splits(items, limit, 0).query("split == 'train'")
    assert len(train) == limit
    expected = np.array([0.6, 0.3, 0.1]) * limit
    assert np.abs(np.bincount(train["label"], minlength=3) - expected).max() <= 1


def test_train_limit_takes_one_of_each_class_first() -> None:
    items = listing([f"{row}" for row in range(1000)], ["train"] * 1000, [0] * 997 + [1, 2, 3])
    items = pd.concat([items, listing(["v", "t"], ["validation", "test"], [0, 1])], ignore_index=True)
    assert set(complete_splits(items, 4, 0).query("split == 'train'")["label"]) == {0, 1, 2, 3}


def test_train_limit_depends_on_the_seed_alone() -> None:
    keys = [set(complete_splits(unsplit(1000), 50, seed)["key"]) for seed in (0, 0, 1)]
    assert keys[0] == keys[1] != keys[2]


def test_train_limit_leaves_the_test_split_whole() -> None:
    whole, limited = (complete_splits(unsplit(1000), limit, 0).query("split == 'test'") for limit in (None, 20))
    assert whole["key"].tolist() == limited["key"].tolist()


def test_train_limit_of_one_is_refused() -> None:
    with pytest.raises(SourceError, match=r"`train_limit=1` leaves nothing to learn from: give 2 or more"):
        complete_splits(unsplit(10), 1, 0)
