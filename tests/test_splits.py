from __future__ import annotations

import random
from zlib import crc32

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.errors import SourceError
from features.sources.source import listing
from features.sources.splits import check_groups, complete_splits, missing_splits, split_table

steadily = settings(deadline=None, derandomize=True, max_examples=25)
"""The same examples in each run, and no limit on their time."""


def unsplit(count: int, classes: int = 2) -> pd.DataFrame:
    keys = [f"{row % classes}/{row:05d}.png" for row in range(count)]
    return listing(keys, ["train"] * count, [row % classes for row in range(count)])


def split_of(items: pd.DataFrame) -> dict[str, str]:
    return dict(zip(items["key"], items["split"], strict=True))


def images_of(classes: dict[str, list[str]]) -> pd.DataFrame:
    keys = [f"{name}/{file}" for name, files in classes.items() for file in files]
    labels = [label for label, files in enumerate(classes.values()) for _ in files]
    return listing(keys, ["train"] * len(keys), labels)


def random_names(count: int, seed: int) -> list[str]:
    """Names without numbers, as of letters drawn by chance."""
    draw = random.Random(seed)
    return ["".join(draw.choices("abcdefgh", k=16)) + ".jpg" for _ in range(count)]


NAMES = st.one_of(
    st.builds(
        lambda start, count: [f"{start + n:04d}.jpg" for n in range(count)], st.integers(0, 50), st.integers(1, 60)
    ),
    st.builds(random_names, st.integers(1, 60), st.integers(0, 10_000)),
)


def test_missing_splits_take_their_share_of_training() -> None:
    shares = complete_splits(unsplit(20_000), None, 0)["split"].value_counts(normalize=True)
    assert shares["test"] == pytest.approx(0.2, abs=0.005)
    assert shares["validation"] == pytest.approx(0.08, abs=0.005)


@steadily
@given(NAMES)
def test_each_class_has_its_quotas(names: list[str]) -> None:
    count = complete_splits(images_of({"a": names}), None, 0)["split"].value_counts()
    n, test, validation = len(names), count.get("test", 0), count.get("validation", 0)
    assert bool(test) == (n >= 2)
    assert bool(validation) == (n >= 3)
    assert count["train"] >= 1
    assert abs(test - 0.2 * n) <= max(1, 0.8 * n**0.5)
    assert abs(validation - 0.1 * (n - test)) <= max(1, 0.6 * (n - test) ** 0.5)


@steadily
@given(st.integers(0, 30), st.integers(2, 60), st.sampled_from(["{}.jpg", "img_{:05d} (copy).png", "c/{:03d}.jp2"]))
def test_where_names_are_numbered_quotas_are_met_to_one_or_two(start: int, n: int, name: str) -> None:
    items = images_of({"a": [name.format(start + number) for number in range(n)]})
    count = complete_splits(items, None, 0)["split"].value_counts()
    assert abs(count["test"] - 0.2 * n) <= 2.2
    assert abs(count.get("validation", 0) - 0.08 * n) <= 2.2


@steadily
@given(
    st.integers(0, 30), st.integers(1, 60), st.integers(1, 20), st.sampled_from(["{}.jpg", "{:05d}.jpg", "a{}b.png"])
)
def test_an_image_that_is_numbered_on_moves_none(start: int, count: int, more: int, name: str) -> None:
    names = [name.format(start + number) for number in range(count + more)]
    before = split_of(complete_splits(images_of({"a": names[:count]}), None, 0))
    after = split_of(complete_splits(images_of({"a": names}), None, 0))
    assert {key: after[key] for key in before} == before


@steadily
@given(st.integers(1, 60), st.integers(0, 10_000))
def test_an_image_of_any_name_moves_two_at_most_and_none_from_test_to_train(count: int, seed: int) -> None:
    names = random_names(count + 1, seed)
    before = split_of(complete_splits(images_of({"a": names[:-1]}), None, 0))
    after = split_of(complete_splits(images_of({"a": names}), None, 0))
    moves = [(split, after[key]) for key, split in before.items() if after[key] != split]
    assert len(moves) <= 2
    assert ("test", "train") not in moves


def test_an_image_of_any_name_seldom_moves_another() -> None:
    names = {str(label): random_names(31, label) for label in range(200)}
    before = split_of(complete_splits(images_of({name: files[:-1] for name, files in names.items()}), None, 0))
    after = split_of(complete_splits(images_of(names), None, 0))
    assert sum(after[key] != split for key, split in before.items()) <= 0.1 * len(names)


def test_an_image_of_another_class_moves_none() -> None:
    one, two = random_names(20, 1), random_names(20, 2)
    alone = split_of(complete_splits(images_of({"a": one}), None, 0))
    assert split_of(complete_splits(images_of({"a": one, "b": two}), None, 0)).items() >= alone.items()


@steadily
@given(NAMES, st.randoms(use_true_random=False))
def test_the_order_of_images_does_not_matter(names: list[str], draw: random.Random) -> None:
    items = images_of({"a": names, "b": names})
    shuffled = items.sample(frac=1, random_state=draw.randrange(1000))
    assert split_of(complete_splits(shuffled, None, 0)) == split_of(complete_splits(items, None, 0))


def test_splits_are_the_same_on_every_machine() -> None:
    items = complete_splits(images_of({"a": [f"{n:03d}.png" for n in range(14)], "b": random_names(14, 0)}), None, 0)
    assert {split: " ".join(rows["key"]) for split, rows in items.groupby("split") if split != "train"} == {
        "test": "a/001.png a/010.png b/cgeafdgfadgbcgbe.jpg b/ddeeccgceafcacbh.jpg",
        "validation": "a/002.png b/bcfghbfhafgccedb.jpg b/bhgdacehaefegehe.jpg",
    }


@pytest.mark.parametrize(("images", "splits"), [(1, 1), (2, 2), (3, 3)])
def test_small_classes_have_as_many_splits_as_images(images: int, splits: int) -> None:
    items = complete_splits(unsplit(images * 300, classes=300), None, 0)
    assert set(items.groupby("label")["split"].nunique()) == {splits}
    assert set(items.query("split == 'train'")["label"]) == set(range(300))


def test_a_given_validation_split_is_used_whole() -> None:
    items = unsplit(200)
    items.loc[:39, "split"] = "validation"
    completed = complete_splits(items, None, 0)
    assert set(completed.query("split == 'validation'").index) == set(range(40))
    assert completed["split"].value_counts()["test"] == pytest.approx(32, abs=2)
    assert missing_splits(items) == ("test",)


def test_a_given_test_split_is_used_whole() -> None:
    items = unsplit(200)
    items.loc[:39, "split"] = "test"
    completed = complete_splits(items, None, 0)
    assert set(completed.query("split == 'test'").index) == set(range(40))
    assert completed["split"].value_counts()["validation"] == pytest.approx(16, abs=2)
    assert missing_splits(items) == ("validation",)


def test_splits_that_are_not_needed_are_not_drawn() -> None:
    assert set(complete_splits(unsplit(100), None, 0, ("train",))["split"]) == {"train"}
    assert missing_splits(unsplit(100), ("train", "validation")) == ("validation",)


def test_the_table_of_splits_counts_each_class() -> None:
    items = listing(list("abcd"), ["train", "train", "test", "train"], [0, 2, 2, 2])
    table = split_table(items, ("ash", "beech", "oak"))
    assert table.to_dict("index") == {
        "ash": {"train": 1, "test": 0},
        "beech": {"train": 0, "test": 0},
        "oak": {"train": 2, "test": 1},
    }


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


SIZES = st.lists(st.lists(st.integers(1, 12), min_size=3, max_size=40), min_size=1, max_size=4)
"""The sizes of each class's groups."""


def grouped(sizes: list[list[int]], name: str = "patient-{:x}") -> pd.DataFrame:
    """Images of classes in groups of these sizes, of which those of one image stand alone."""
    rows = [
        (f"{label}/{hash((label, number, image)) % 10**12:012d}.png", label, name.format(1000 * label + number), size)
        for label, of_class in enumerate(sizes)
        for number, size in enumerate(of_class)
        for image in range(size)
    ]
    keys, labels, groups, count = (list(column) for column in zip(*rows, strict=True))
    named = [group if size > 1 else None for group, size in zip(groups, count, strict=True)]
    return listing(keys, ["train"] * len(keys), labels, groups=named)


def torn(items: pd.DataFrame) -> int:
    """How many groups are in several splits."""
    return int((items.groupby("group")["split"].nunique() > 1).sum())


@steadily
@given(SIZES, st.one_of(st.none(), st.integers(2, 60)), st.booleans())
def test_no_group_is_in_two_drawn_splits(sizes: list[list[int]], limit: int | None, across: bool) -> None:
    items = grouped(sizes)
    if across:  # groups that have images of several classes
        items = items.assign(group=[f"g{crc32(key.encode()) % 7}" for key in items["key"]])
    completed = complete_splits(items, limit, 0)
    assert torn(completed) == 0
    assert limit or split_of(completed).keys() == set(items["key"])


@steadily
@given(SIZES)
def test_groups_meet_each_classs_share_as_far_as_they_are_small(sizes: list[list[int]]) -> None:
    completed = complete_splits(grouped(sizes), None, 0)
    for label, of_class in enumerate(sizes):
        count = completed.query(f"label == {label}")["split"].value_counts()
        assert set(count.index) == {"train", "validation", "test"}
        wanted = 0.2 * sum(of_class)
        slack = max(1.0, wanted / 2, max(of_class))
        assert wanted - slack - 1 < count["test"] <= wanted + slack + 1


def test_a_group_as_large_as_half_a_class_is_learnt_from() -> None:
    completed = complete_splits(grouped([[100, *[1] * 100]]), None, 0)
    count = completed["split"].value_counts()
    assert set(completed.dropna(subset="group")["split"]) == {"train"}
    assert 20 <= count["test"] <= 60
    assert 8 <= count["validation"] <= 25


@steadily
@given(SIZES, st.integers(0, 39))
def test_a_group_that_is_added_to_or_is_new_moves_few_others(sizes: list[list[int]], at: int) -> None:
    items = grouped([[size + 1 for size in of_class] for of_class in sizes], "{:05d}")
    extra = listing(["0/extra.png", "0/new.png"], ["train"] * 2, [0, 0], groups=[f"{at % len(sizes[0]):05d}", "99999"])
    before = complete_splits(items, None, 0).groupby("group")["split"].first()
    after = complete_splits(pd.concat([items, extra], ignore_index=True), None, 0).groupby("group")["split"].first()
    moved = (after[before.index] != before).groupby(items.groupby("group")["label"].first()).sum()
    assert moved.drop(0).sum() == 0  # other classes
    assert moved[0] <= 2 + 0.15 * len(sizes[0])


def test_names_of_groups_alone_decide() -> None:
    sizes = [[5] * 40, [3] * 40]
    items = grouped(sizes)
    renamed = items.assign(key=[f"other {row}" for row in range(len(items))])
    splits = [complete_splits(each, None, 0).groupby("group")["split"].first() for each in (items, renamed)]
    assert splits[0].equals(splits[1])


def test_a_class_in_one_group_cannot_be_learnt_and_tested() -> None:
    items = listing(list("abcdefg"), ["train"] * 7, [0, 0, 0, 1, 1, 1, 2], groups=["p", "p", None, "q", "q", "q", None])
    message = (
        r"photos has all 3 images of the class 'oak' in the group 'q', so that it cannot be both learnt and tested: "
        r"add images of other groups, give another `group`, or leave the class out"
    )
    with pytest.raises(SourceError, match=message):
        check_groups("photos", items, ("ash", "oak", "yew"), ("test", "validation"))
    check_groups("photos", items, ("ash", "oak", "yew"), ("validation",))  # its test images are given


def test_groups_in_several_given_splits_are_counted(caplog: pytest.LogCaptureFixture) -> None:
    items = listing(list("abcd"), ["train", "test", "train", "test"], [0, 1, 0, 1], groups=["p", "p", "q", None])
    check_groups("photos", items, ("ash", "oak"), ())
    assert caplog.messages == ["photos: 1 groups of images are in several of its splits (p): the test is too kind"]
    assert split_of(complete_splits(items, None, 0, ("train", "test"))) == split_of(items)
