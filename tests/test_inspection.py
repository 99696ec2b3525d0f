"""What checks find in images that are told in a table: each with what is planted, and with what is to be left alone."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from features.near.pairs import NearDoubles
from pipeline.inspection.classes import check_classes, check_groups
from pipeline.inspection.codes import CODES
from pipeline.inspection.doubles import check_doubles
from pipeline.inspection.finding import COLUMNS, SHOWN, Facts, Finding, Found, effect, listed, pictured, told
from pipeline.inspection.labels import check_labels, suspect_labels
from pipeline.inspection.pixels import check_odd, check_pixels
from pipeline.inspection.shortcuts import check_shortcuts

ALIKE = {"bytes": 900, "width": 40, "height": 30, "brightness": 0.5, "contrast": 0.2, "sharpness": 0.4, "odd": 0.3}
"""What an image is like that is like all others."""


@pytest.fixture(autouse=True)
def no_word_of_numpy() -> Iterator[None]:
    """No check divides by zero, or takes the mean of nothing, unheard."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def facts_of(
    labels: Sequence[int],
    splits: str | Sequence[str] = "train",
    *,
    pairs: Sequence[tuple[int, int]] = (),
    said: Any = None,
    in_folds: bool = False,
    classes: int = 0,
    **columns: Any,
) -> Facts:
    """Images a0, a1 … of classes A, B …; those of the test split are judged, in folds all are."""
    n, k = len(labels), classes or max(labels) + 1
    given = {"split": splits, "label": labels, "group": None, "red": 0.5, "green": 0.5, "blue": 0.5, **ALIKE, **columns}
    images = pd.DataFrame({"key": [f"a{number}" for number in range(n)], **given})
    first, second = np.array(pairs, np.int64).reshape(-1, 2).T
    return Facts(
        classes=tuple(map(chr, range(65, 65 + k))),
        images=images,
        families=np.arange(n),
        doubles=NearDoubles(
            first=first, second=second, score=np.linspace(9, 1, len(pairs), dtype=np.float32), found={}
        ),
        said=np.full((n, k), np.nan, np.float32) if said is None else np.array(said, np.float32),
        judged=np.full(n, True) if in_folds else (images["split"] == "test").to_numpy(),
        in_folds=in_folds,
    )


def by_code(found: Iterator[Found]) -> dict[str, Found]:
    every = list(found)
    assert len({each.code for each in every}) == len(every)
    assert {each.code for each in every} <= set(CODES)
    return {each.code: each for each in every}


def probabilities(labels: NDArray[np.int32], classes: int, seed: int = 0) -> NDArray[np.float32]:
    """What a good classifier says of images of these true labels: mostly nearly 1 for the right class, never 0.5."""
    right = 1 - 0.49 * np.random.default_rng(seed).random(len(labels)) ** 3
    found = np.repeat((1 - right)[:, None] / (classes - 1), classes, axis=1)
    found[np.arange(len(labels)), labels] = right
    return found.astype(np.float32)


@pytest.mark.parametrize("classes", [2, 5])
def test_planted_flips_are_found_and_their_class_is_named(classes: int) -> None:
    true = (np.arange(200) % classes).astype(np.int32)
    flipped = np.arange(0, 200, 20)
    given = true.copy()
    given[flipped] = (true[flipped] + 1) % classes
    places, suggested = suspect_labels(probabilities(true, classes), given)
    assert set(places) <= set(flipped)
    assert len(places) > len(flipped) / 2  # of the others it is less sure than of most
    named = dict(zip(places.tolist(), suggested.tolist(), strict=True))
    assert named == {place: true[place] for place in places}


def test_labels_come_by_self_confidence_and_the_right_ones_not_at_all() -> None:
    said = [[0.9, 0.1], [0.8, 0.2], [0.1, 0.9], [0.2, 0.8], [0.1, 0.9], [0.05, 0.95], [0.1, 0.9]]
    found = by_code(check_labels(facts_of([0, 0, 1, 1, 0, 0, 1], said=said)))["label"]
    assert found.rows.tolist() == [5, 4]
    assert found.scores.tolist() == pytest.approx([0.05, 0.1])
    assert found.suggested is not None
    assert found.suggested.tolist() == [1, 1]
    assert found.sentence.startswith("2 images of 7 may be labelled wrong")


def test_images_of_which_nothing_was_said_are_passed_over() -> None:
    nothing = [np.nan, np.nan]
    said = [nothing, [0.9, 0.1], [0.8, 0.2], nothing, [0.1, 0.9], [0.2, 0.8], [0.05, 0.95]]
    found = by_code(check_labels(facts_of([1, 0, 0, 0, 1, 1, 0], said=said)))["label"]
    assert found.rows.tolist() == [6]
    assert "of 5 may" in found.sentence
    assert not by_code(check_labels(facts_of([0, 1])))


def test_classifiers_that_know_nothing_say_nothing_of_labels() -> None:
    said = np.random.default_rng(0).dirichlet(np.ones(4), 80)
    labels = (np.arange(80) % 4).astype(np.int32)
    clueless = said.copy()
    clueless[:, 0] += 1  # always the same class
    assert len(suspect_labels(said, labels)[0])
    assert not by_code(check_labels(facts_of(labels.tolist(), said=clueless)))


def test_a_class_that_no_label_names_is_suggested_to_no_one() -> None:
    said = [[0.1, 0.2, 0.7], [0.1, 0.3, 0.6], [0.3, 0.1, 0.6]]
    places, _ = suspect_labels(np.array(said, np.float32), np.array([0, 1, 0], np.int32))
    assert not len(places)


def test_one_image_a_class_is_suspect_where_it_looks_more_like_another_than_that_ones_own() -> None:
    y = np.arange(3, dtype=np.int32)
    assert not len(suspect_labels(np.eye(3, dtype=np.float32), y)[0])
    places, suggested = suspect_labels(np.array([[0.1, 0.9, 0], [0.1, 0.8, 0.1], [0, 0, 1]], np.float32), y)
    assert (places.tolist(), suggested.tolist()) == ([0], [1])


def test_doubles_across_splits_leak_and_name_the_judged_one() -> None:
    found = by_code(check_doubles(facts_of([0] * 4, ["train", "test", "test", "validation"], pairs=[(0, 1), (2, 3)])))
    assert list(found) == ["leak"]
    assert found["leak"].rows.tolist() == [1, 2]
    assert found["leak"].others is not None
    assert found["leak"].others.tolist() == [0, 3]
    assert found["leak"].scores.tolist() == [9, 1]
    assert "2 images have a double, or nearly one, among training or validation images" in found["leak"].sentence


def test_doubles_within_what_is_learnt_or_tested_list_the_later_image() -> None:
    facts = facts_of([0] * 6, ["train"] * 2 + ["validation"] * 2 + ["test"] * 2, pairs=[(0, 1), (1, 2), (4, 5)])
    found = by_code(check_doubles(facts))
    assert list(found) == ["double"]
    assert listed(list(found.values()), facts)[["key", "other"]].to_numpy().tolist() == [
        ["a1", "a0"],
        ["a2", "a1"],
        ["a5", "a4"],
    ]


def test_a_pair_under_two_labels_lists_both_and_may_leak_as_well() -> None:
    facts = facts_of([0, 1, 0, 1], ["train", "train", "train", "test"], pairs=[(0, 1), (2, 3)])
    found = by_code(check_doubles(facts))
    assert list(found) == ["leak", "conflict"]
    assert found["conflict"].rows.tolist() == [0, 1, 2, 3]
    assert found["conflict"].others is not None
    assert found["conflict"].others.tolist() == [1, 0, 3, 2]
    assert found["leak"].rows.tolist() == [3]
    shown = told(found["conflict"], facts)
    assert (shown.images, [(one.key, one.other) for one in shown.shown]) == (4, [("a0", "a1"), ("a2", "a3")])


def test_in_folds_doubles_leak_but_within_a_family() -> None:
    facts = facts_of([0] * 6, pairs=[(0, 1), (2, 3), (4, 5)], in_folds=True)
    facts = replace(facts, families=np.array([0, 0, 1, 2, 3, 4]))
    facts.judged[[4, 3]] = False
    facts.judged[5] = False
    found = by_code(check_doubles(facts))
    assert found["leak"].rows.tolist() == [2]  # 3 was learnt from and never judged, 4 and 5 neither
    assert "among images of other folds" in found["leak"].sentence
    assert found["double"].rows.tolist() == [1, 5]


def test_in_folds_both_of_a_pair_leak_and_are_shown_once() -> None:
    facts = facts_of([0, 0], pairs=[(0, 1)], in_folds=True)
    leak = by_code(check_doubles(facts))["leak"]
    assert leak.rows.tolist() == [0, 1]
    finding = told(leak, facts)
    assert (finding.images, len(finding.shown)) == (2, 1)
    assert pictured([finding]) == ["a0", "a1"]


def test_an_image_with_many_doubles_counts_once() -> None:
    facts = facts_of([0] * 4, ["train"] * 3 + ["test"], pairs=[(0, 3), (1, 3), (2, 3)])
    leak = by_code(check_doubles(facts))["leak"]
    assert leak.sentence.startswith("1 image has a double")
    assert told(leak, facts).images == 1
    assert len(listed([leak], facts)) == 3


def test_no_more_pictures_are_shown_than_a_page_takes_and_the_surest_of_them() -> None:
    pairs = [(2 * number, 2 * number + 1) for number in reversed(range(SHOWN + 5))]
    facts = facts_of([0] * 2 * len(pairs), pairs=pairs)
    finding = told(by_code(check_doubles(facts))["double"], facts)
    assert finding.images == SHOWN + 5
    assert [one.key for one in finding.shown] == [f"a{second}" for _, second in pairs[:SHOWN]]


def test_without_doubles_there_is_nothing_to_say() -> None:
    assert not by_code(check_doubles(facts_of([0, 1])))
    assert not by_code(check_doubles(facts_of([0, 1], in_folds=True)))


def with_odd_one(name: str, value: float, n: int = 20) -> Facts:
    """Images that differ a little, and the last of which has another value."""
    facts = facts_of([0] * n)
    random = np.random.default_rng(0)
    for each in ("brightness", "contrast", "sharpness", "odd"):
        facts.images[each] *= random.uniform(0.9, 1.1, n)
    facts.images[name] = facts.images[name].astype(np.float64)
    facts.images.loc[n - 1, name] = value
    return facts


@pytest.mark.parametrize(
    ("code", "column", "value"),
    [
        ("blank", "contrast", 0.01),
        ("blurred", "sharpness", 0.05),
        ("size", "width", 40 * 9),
        ("size", "height", 3),
        ("shape", "width", 40 * 3),
        ("odd", "odd", 0.9),
    ],
)
def test_the_one_that_is_unlike_the_others_is_found(code: str, column: str, value: float) -> None:
    facts = with_odd_one(column, value)
    found = by_code(iter([*check_pixels(facts), *check_odd(facts)]))
    assert found[code].rows.tolist() == [19]
    assert found[code].sentence.startswith("1 image is" if code != "blank" else "1 image shows nothing")
    assert set(found) <= {code, "size", "shape"}


def test_dark_images_are_dark_and_those_of_one_colour_blank_whatever_the_others_are() -> None:
    facts = facts_of([0] * 4, brightness=[0.05, 0.05, 0.0, 0.9], contrast=[0.03, 0.03, 0.0, 0.0], sharpness=0.4)
    found = by_code(check_pixels(facts))
    assert {code: each.rows.tolist() for code, each in found.items()} == {"blank": [2, 3], "dark": [0, 1]}
    assert found["dark"].sentence == "2 images are nearly black throughout"


def test_sharper_images_than_the_others_are_not_blurred() -> None:
    assert "blurred" not in by_code(check_pixels(with_odd_one("sharpness", 4.0)))


def test_a_blurred_image_is_found_among_ever_so_many_blank_ones() -> None:
    facts = with_odd_one("sharpness", 0.05)
    blank = pd.concat([facts.images.iloc[:1]] * 30).assign(contrast=0.0, sharpness=0.0)
    images = pd.concat([blank, facts.images], ignore_index=True)
    found = by_code(check_pixels(replace(facts, images=images)))
    assert found["blank"].rows.tolist() == list(range(30))
    assert found["blurred"].rows.tolist() == [49]


@pytest.mark.parametrize("n", [1, 2, 3, 5, 200])
def test_of_images_that_are_all_alike_none_is_unlike(n: int) -> None:
    facts = facts_of([0] * n)
    assert not list(check_pixels(facts))
    assert not list(check_odd(facts))


def test_sizes_that_differ_a_little_where_nearly_all_are_one_are_no_outliers() -> None:
    assert not list(check_pixels(facts_of([0] * 50, width=[40] * 49 + [60])))


def test_the_worst_come_first() -> None:
    facts = facts_of([0] * 30, width=[40] * 27 + [400, 4000, 1], odd=[0.3] * 27 + [0.5, 0.9, 0.7])
    assert by_code(check_pixels(facts))["size"].rows.tolist() == [28, 29, 27]
    assert by_code(check_odd(facts))["odd"].rows.tolist() == [28, 29, 27]


def test_classes_of_unlike_size_of_few_images_and_missing_from_a_split() -> None:
    labels = [0] * 220 + [1] * 20 + [2] * 12
    splits = (["train"] * 200 + ["test"] * 20) + ["train"] * 20 + (["train"] * 9 + ["test"] * 3)
    found = by_code(check_classes(facts_of(labels, splits)))
    assert list(found) == ["imbalance", "few", "absent"]
    assert found["imbalance"].sentence.startswith("A has 18 times the images of C (220 and 12)")
    assert found["few"].sentence == "the class C has fewer than 10 training images"
    assert found["absent"].sentence == "the class B has no test images"
    assert not any(len(each.rows) for each in found.values())


def test_several_classes_are_named() -> None:
    sentence = by_code(check_classes(facts_of([0, 1, 2])))["few"].sentence
    assert sentence == "3 classes (A, B, C) have fewer than 10 training images"


def test_a_class_without_a_single_image_is_not_so_many_times_smaller() -> None:
    found = by_code(check_classes(facts_of([0] * 20 + [1] * 20, classes=3)))
    assert "imbalance" not in found
    assert found["few"].sentence.startswith("the class C has")
    assert found["absent"].sentence == "the class C has no train images"


def test_classes_that_are_alike_are_no_finding() -> None:
    assert not list(check_classes(facts_of([0] * 20 + [1] * 20)))


def test_the_tested_images_of_a_group_in_two_splits_are_named() -> None:
    groups = ["p", "p", "q", "q", None, None]
    facts = facts_of([0] * 6, ["train", "test", "test", "test", "train", "test"], group=groups)
    found = by_code(check_groups(facts))["group"]
    assert found.rows.tolist() == [1]
    assert found.sentence == "1 tested image of groups that are learnt from too: accuracy is too good"
    assert not list(check_groups(replace(facts, in_folds=True)))


def test_a_group_in_training_and_validation_alone_spoils_no_test() -> None:
    assert not list(check_groups(facts_of([0, 0, 0], ["train", "validation", "test"], group=["p", "p", None])))


@pytest.mark.parametrize(
    ("said", "columns"),
    [
        ("size", {"width": [40] * 30 + [80] * 30}),
        ("file size", {"bytes": [*range(900, 930), *range(5000, 5030)]}),
        ("mean colour", {"red": np.concatenate([np.linspace(0.1, 0.3, 30), np.linspace(0.6, 0.8, 30)])}),
    ],
)
def test_what_gives_classes_away_is_named(said: str, columns: dict[str, Any]) -> None:
    found = by_code(check_shortcuts(facts_of([0] * 30 + [1] * 30, **columns), seed=0))["shortcut"]
    assert f"({said} alone 100%)" in found.sentence
    assert "always the largest class 50%; they give A away; they give B away: " in found.sentence


def test_one_class_of_three_can_be_given_away() -> None:
    width = np.random.default_rng(0).integers(35, 45, 90)
    width[:30] = 400
    sentence = by_code(check_shortcuts(facts_of([0] * 30 + [1] * 30 + [2] * 30, width=width), seed=0))[
        "shortcut"
    ].sentence
    assert "they give A away" in sentence
    assert "give B away" not in sentence


def test_where_nothing_tells_nothing_is_said() -> None:
    random = np.random.default_rng(1)
    labels = [0] * 60 + [1] * 60
    assert not list(check_shortcuts(facts_of(labels), seed=0))
    assert not list(
        check_shortcuts(facts_of(labels, red=random.random(120), width=random.integers(9, 99, 120)), seed=0)
    )


def test_too_few_images_are_not_probed() -> None:
    assert not list(check_shortcuts(facts_of([0] * 4 + [1] * 40, width=[40] * 4 + [80] * 40), seed=0))
    assert not list(check_shortcuts(facts_of([0, 1], width=[40, 80]), seed=0))


@pytest.mark.parametrize("families", [np.repeat([0, 1], 30), np.zeros(60, int), np.arange(60) // 20])
def test_families_too_few_to_probe_in_folds_are_not_probed(families: NDArray[np.intp]) -> None:
    facts = facts_of([0] * 30 + [1] * 30, width=[40] * 30 + [80] * 30)
    assert not list(check_shortcuts(replace(facts, families=families), seed=0))


def found_of(code: str, rows: list[int], **more: Any) -> Found:
    return Found(code=code, sentence="so it is", rows=np.array(rows, np.intp), scores=np.zeros(len(rows)), **more)


def test_accuracy_is_told_with_and_without_the_images_found() -> None:
    said = [[0.9, 0.1]] * 4 + [[0.1, 0.9]] * 2
    facts = facts_of([0] * 6, ["train", *["test"] * 5], said=said)
    finding = told(found_of("odd", [1, 4]), facts)
    assert (finding.accuracy, finding.without) == pytest.approx((3 / 5, 2 / 3))
    assert effect(finding) == ("60.00", "66.67")


@pytest.mark.parametrize("rows", [[], [0], [1, 2]])
def test_accuracy_is_left_out_where_no_judged_image_has_it_or_all_have(rows: list[int]) -> None:
    finding = told(
        found_of("odd", rows), facts_of([0] * 3, ["train", "test", "test"], said=[[0.9, 0.1]] * 3, classes=2)
    )
    assert (finding.accuracy, finding.without) == (None, None)
    assert effect(finding) == ("", "")


def test_what_was_judged_but_never_said_counts_as_wrong() -> None:
    facts = facts_of([0, 1], "test", said=[[np.nan, np.nan], [0.1, 0.9]])
    assert facts.right.tolist() == [False, True]


def test_lists_have_names_of_classes_and_keys_and_nothing_where_there_is_none() -> None:
    facts = facts_of([0, 1], ["train", "test"])
    every = [
        found_of("leak", [1], others=np.array([0])),
        found_of("few", []),
        found_of("label", [0], suggested=np.array([1])),
    ]
    rows = listed(every, facts)
    assert tuple(rows.columns) == COLUMNS
    assert rows.astype(object).where(rows.notna(), None).to_numpy().tolist() == [
        ["leak", "a1", "test", "B", "a0", None, 0.0],
        ["label", "a0", "train", "A", None, "B", 0.0],
    ]
    assert tuple(listed([], facts).columns) == COLUMNS
    assert listed([found_of("few", [])], facts).empty


def test_a_page_has_the_pictures_of_both_images_of_a_pair() -> None:
    facts = facts_of([0, 1, 0], ["train", "test", "train"])
    findings: list[Finding] = [
        told(each, facts) for each in (found_of("leak", [1], others=np.array([0])), found_of("odd", [2]))
    ]
    assert pictured(findings) == ["a1", "a0", "a2"]
    assert findings[0].shown[0].other_label == 0
