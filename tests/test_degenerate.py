"""Tables with too few rows, rows too alike, and too many classes: whatever may be learnt from is learnt from."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from features.table.table import Rows
from models.card import load_classifier, save_classifier
from models.columns.nodes import score_nodes
from models.heads.registry import HEADS, HeadSettings
from models.heads.settings import MANY_CLASSES, MOST_TREES, MlpSettings, XgbSettings
from tests.conftest import CPU
from tests.test_heads import MemoryTable, accuracy, fitted

QUICK = HeadSettings(xgb=XgbSettings(rounds=5), mlp=MlpSettings(hidden=(16,), epochs=3, batches=8))

Values = NDArray[np.floating]
Labels = NDArray[np.intp]


def centres(y: Labels, columns: int, seed: int) -> Values:
    """Rows around a centre a class, as ReLU leaves them."""
    middle = np.random.default_rng(0).normal(size=(int(y.max()) + 1, columns))
    return np.maximum(middle[y] + 0.5 * np.random.default_rng(seed).normal(size=(len(y), columns)), 0)


def far_apart(y: Labels, columns: int, seed: int) -> Values:
    middle = 5 * np.random.default_rng(0).normal(size=(int(y.max()) + 1, columns))
    return middle[y] + np.random.default_rng(seed).normal(size=(len(y), columns))


def alike(y: Labels, columns: int, seed: int) -> Values:
    """All rows of a class are one row, as images of one colour are."""
    return centres(np.arange(y.max() + 1), columns, 0)[y]


def the_same(y: Labels, columns: int, seed: int) -> Values:
    return np.full((len(y), columns), 3.7)


def nothing(y: Labels, columns: int, seed: int) -> Values:
    return np.zeros((len(y), columns))


def on_a_line(y: Labels, columns: int, seed: int) -> Values:
    """Rank 1."""
    place = y + 0.3 * np.random.default_rng(seed).normal(size=len(y))
    return np.outer(place, np.random.default_rng(0).normal(size=columns))


def huge(y: Labels, columns: int, seed: int) -> Values:
    """Up to the largest value that float16 has."""
    return 65504 * np.minimum(centres(y, columns, seed) / 3, 1)


def tiny(y: Labels, columns: int, seed: int) -> Values:
    """A few times the smallest value above zero that float16 has."""
    return 6e-8 * np.round(4 * centres(y, columns, seed))


def of_two_sizes(y: Labels, columns: int, seed: int) -> Values:
    """Tiny in training, huge in validation and test."""
    return (tiny if seed == 1 else huge)(y, columns, seed)


def contradicting(y: Labels, columns: int, seed: int) -> Values:
    """Each image once as each class."""
    return centres(np.arange(len(y)) // (int(y.max()) + 1) % 2, columns, 1)


Make = Callable[[Labels, int, int], Values]


def table(make: Make, train: Labels, validation: Labels, columns: int = 30) -> MemoryTable:
    classes = int(train.max()) + 1
    labels = {"train": train, "validation": validation, "test": np.arange(classes).repeat(2)}
    splits = {}
    for seed, (split, y) in enumerate(labels.items(), start=1):
        x = make(y, columns, seed).astype(np.float16).astype(np.float32)
        keys = np.array([f"{split}/{row}" for row in range(len(y))], object)
        splits[split] = Rows(keys=keys, x=x, y=y.astype(np.int32))
    return MemoryTable(splits, tuple(f"class {number}" for number in range(classes)))


def each(classes: int, times: int = 1) -> Labels:
    return np.tile(np.arange(classes), times)


TABLES: dict[str, MemoryTable] = {
    **{make.__name__: table(make, each(3, 8), each(3, 2)) for make in (alike, the_same, nothing, on_a_line)},
    **{make.__name__: table(make, each(3, 8), each(3, 2)) for make in (huge, tiny, of_two_sizes, contradicting)},
    "one row a class": table(centres, each(3), each(3)),
    "one row a class, two classes": table(centres, each(2), each(2)),
    "one row a class, all the same": table(the_same, each(2), each(2)),
    "one validation row": table(centres, each(3, 4), np.array([1])),
    "a class missing in validation": table(centres, each(3, 4), each(2, 3)),
    "one column": table(centres, each(3, 8), each(3, 2), columns=1),
    "rows all alike and more than columns": table(alike, each(2, 60), each(2, 5)),
    "more than fifty classes": table(centres, each(51, 2), each(51)),
}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("name", TABLES)
def test_every_head_learns_from_whatever_may_be_learnt_from(name: str, head: str, tmp_path: Path) -> None:
    rows = TABLES[name]
    learnt = fitted(head, rows, QUICK)
    x = rows.read("test").x
    probabilities = learnt.predict_proba(x)
    assert probabilities.shape == (len(x), len(rows.classes))
    assert np.isfinite(probabilities).all()
    assert probabilities.sum(axis=1) == pytest.approx(1, abs=1e-4)
    assert np.isfinite(learnt.learned_["validation_log_loss"])
    assert np.array_equal(fitted(head, rows, QUICK).predict_proba(x), probabilities)
    path = save_classifier(learnt, rows, tmp_path, weights="random", validation={})
    assert json.loads(path.with_suffix(".json").read_text())["learned"] == json.loads(json.dumps(learnt.learned_))
    assert np.array_equal(load_classifier(path)[0].predict_proba(x), probabilities)


@pytest.mark.parametrize("name", TABLES)
def test_nodes_are_scored_on_whatever_may_be_learnt_from(name: str) -> None:
    best = score_nodes(TABLES[name], CPU, lambda _: None).best
    assert 0 <= best.accuracy <= 1
    assert np.isfinite(best.log_loss)


@pytest.mark.parametrize("head", HEADS)
def test_classes_whose_rows_are_alike_are_told_apart(head: str) -> None:
    rows = table(alike, each(3, 8), each(3, 2))
    x, y = rows.read("test").x, rows.read("test").y
    assert (fitted(head, rows).predict_proba(x).argmax(axis=1) == y).all()


@pytest.mark.slow
@pytest.mark.parametrize("head", HEADS)
def test_ten_thousand_times_more_columns_than_rows(head: str) -> None:
    rows = table(centres, each(2, 2), each(2), columns=40_000)
    assert np.isfinite(fitted(head, rows).predict_proba(rows.read("test").x)).all()


@pytest.mark.slow
@pytest.mark.parametrize("head", HEADS)
def test_a_thousand_classes(head: str) -> None:
    rows = table(centres, each(1000, 2), each(1000), columns=20)
    quick = replace(QUICK, xgb=XgbSettings(rounds=1))
    probabilities = fitted(head, rows, quick).predict_proba(rows.read("test").x)
    assert probabilities.shape == (2000, 1000)
    assert probabilities.sum(axis=1) == pytest.approx(1, abs=1e-4)


def test_settings_of_trees_suit_many_classes_unless_they_are_given() -> None:
    assert XgbSettings().suited(MANY_CLASSES) == XgbSettings()
    many = XgbSettings(max_bin=32).suited(500)
    assert many.max_bin == 32
    assert many.max_depth < XgbSettings().max_depth
    assert many.rounds == MOST_TREES // 500
    assert XgbSettings(rounds=3).suited(500).rounds == 3


def test_trees_tell_many_classes_of_few_rows_apart() -> None:
    rows = table(far_apart, each(200, 4), each(200), columns=20)
    head, test = fitted("xgb", rows, HeadSettings(xgb=XgbSettings(rounds=3))), rows.read("test")
    assert accuracy(head, test.x, test.y) > 0.5
    assert head.learned_["validation_log_loss"] < 0.6 * np.log(200)
