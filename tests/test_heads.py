from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from features.joined import JoinedTable
from features.table import FeatureTable, Rows, TableSpec
from models.base import Head, Step
from models.boosted import BoostedHead
from models.errors import DataError
from models.heads import HEADS, make_head
from models.settings import HEAD_SETTINGS, XgbSettings
from tests.conftest import CPU, make_tiny_trunk

CLASSES = ("a", "b", "c")


class MemoryTable(JoinedTable):
    """A table of arrays that were never written."""

    def __init__(self, splits: dict[str, Rows], classes: tuple[str, ...]) -> None:
        dim = splits["train"].x.shape[1]
        spec = TableSpec(dataset="toy", classes=classes, source_sha256="", trunk=make_tiny_trunk().spec, dim=dim)
        manifest = {"rows": {name: len(rows) for name, rows in splits.items()}, "errors": 0, "shards": {}}
        super().__init__([FeatureTable(Path("toy"), spec, manifest)])
        self.splits = splits

    @property
    def dims(self) -> tuple[int, ...]:
        return (self.splits["train"].x.shape[1],)

    def read(self, split: str) -> Rows:
        return self.splits[split]

    def by_node(self) -> dict[str, JoinedTable]:
        return {"pool": self}

    def labels(self, split: str) -> NDArray[np.int32]:
        return self.splits[split].y

    def batches(self, split: str, size: int = 64) -> Iterator[Rows]:
        rows = self.splits[split]
        for start in range(0, len(rows), size):
            part = slice(start, start + size)
            yield Rows(keys=rows.keys[part], x=rows.x[part], y=rows.y[part])


def toy_rows(count: int, labels: list[int], seed: int) -> Rows:
    """Rows around a centre a class, 40 columns, of which the last never changes."""
    random = np.random.default_rng(seed)
    y = np.resize(np.asarray(labels, np.int32), count)
    centres = np.random.default_rng(0).normal(size=(3, 40)) * 2 + 5
    x = (centres[y] + random.normal(size=(count, 40))).astype(np.float32)
    x[:, -1] = 7
    return Rows(keys=np.array([f"{seed}/{row}" for row in range(count)], dtype=object), x=x, y=y)


def toy_table(labels: tuple[int, ...] = (0, 1, 2), validation: tuple[int, ...] = (0, 1, 2)) -> MemoryTable:
    splits = {"train": toy_rows(150, list(labels), 1), "validation": toy_rows(60, list(validation), 2)}
    return MemoryTable(splits | {"test": toy_rows(90, [0, 1, 2], 3)}, CLASSES)


def fitted(name: str, table: JoinedTable, seed: int = 0) -> Head:
    return make_head(name, seed=seed, device=CPU).fit(table, lambda _: None)


@pytest.fixture(params=list(HEADS))
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_every_head_has_settings() -> None:
    assert list(HEADS) == list(HEAD_SETTINGS)


def test_learns_what_can_be_learnt(name: str) -> None:
    table = toy_table()
    head = fitted(name, table)
    probabilities = head.predict_proba(table.read("test").x)
    assert head.classes_ == CLASSES
    assert probabilities.shape == (90, 3)
    assert probabilities.dtype == np.float32
    assert probabilities.sum(axis=1) == pytest.approx(1, abs=1e-5)
    assert (probabilities.argmax(axis=1) == table.read("test").y).mean() > 0.9
    assert head.fit_seconds_ > 0


def test_never_sees_the_test_rows(name: str) -> None:
    table = toy_table()
    x = table.read("test").x
    before = fitted(name, table).predict_proba(x)
    del table.splits["test"]
    assert np.array_equal(fitted(name, table).predict_proba(x), before)


def test_same_seed_same_model(name: str) -> None:
    table = toy_table()
    first, again = (fitted(name, table).predict_proba(table.read("test").x) for _ in range(2))
    assert np.array_equal(first, again)


def test_a_class_without_training_rows_is_left_out(name: str) -> None:
    table = toy_table(labels=(0, 2))
    head = fitted(name, table)
    assert head.classes_ == ("a", "c")
    test = table.read("test")
    predicted = head.predict_proba(test.x).argmax(axis=1)
    assert (predicted[test.y == 2] == 1).mean() > 0.9


def test_reports_its_steps(name: str) -> None:
    steps: list[Step] = []
    head = make_head(name, seed=0, device=CPU)
    head.fit(toy_table(), steps.append)
    assert 1 <= len(steps) <= head.steps(toy_table())
    assert all("validation log-loss" in step.note for step in steps)
    assert min(step.loss for step in steps if step.loss is not None) == pytest.approx(
        head.learned_["validation_log_loss"], abs=1e-6
    )


def test_one_training_class(name: str) -> None:
    with pytest.raises(DataError, match=r"has 1 classes in its training rows: two or more are needed"):
        fitted(name, toy_table(labels=(1,)))


def test_no_validation_row_of_a_training_class(name: str) -> None:
    with pytest.raises(DataError, match=r"has no validation rows of its training classes"):
        fitted(name, toy_table(labels=(0, 1), validation=(2,)))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_not_finite(name: str, value: float) -> None:
    table = toy_table()
    table.read("train").x[3, 5] = value
    with pytest.raises(DataError, match=r"infinite or not a number \(first: 1/3\)"):
        fitted(name, table)


def accuracy(head: Head, x: NDArray[np.float32], y: NDArray[np.int32]) -> float:
    return float((head.predict_proba(x).argmax(axis=1) == y).mean())


def test_trees_stop_once_validation_no_longer_improves() -> None:
    table = toy_table()
    head = make_head("xgb", settings=replace(XgbSettings(), rounds=400, patience=5), seed=0, device=CPU)
    steps: list[Step] = []
    head.fit(table, steps.append)
    losses = [step.loss for step in steps if step.loss is not None]
    assert len(losses) < 400
    assert losses[head.learned_["rounds"] - 1] == min(losses)
    assert head.learned_["validation_log_loss"] == pytest.approx(min(losses), abs=1e-6)


def test_trees_see_only_the_columns_that_tell_classes_apart() -> None:
    table = toy_table()
    random = np.random.default_rng(9)
    for split, rows in table.splits.items():
        noise = random.normal(size=(len(rows), 200)).astype(np.float32)
        table.splits[split] = replace(rows, x=np.concatenate([noise, rows.x], axis=1))
    head = make_head("xgb", settings=replace(XgbSettings(), columns=20), seed=0, device=CPU)
    head.fit(table, lambda _: None)
    assert isinstance(head, BoostedHead)
    chosen = dict(head.model_.named_steps["reduce"].transformer_list)["columns"].get_support(indices=True)
    assert len(chosen) == 20
    assert chosen.min() >= 200


def test_trees_on_disk_are_the_trees_in_memory() -> None:
    table = toy_table()
    in_memory = fitted("xgb", table)
    head = make_head("xgb", settings=replace(XgbSettings(), external_memory=True), seed=0, device=CPU)
    head.fit(table, lambda _: None)
    x = table.read("test").x
    assert head.predict_proba(x) == pytest.approx(in_memory.predict_proba(x), abs=1e-4)


def test_trees_without_discriminants() -> None:
    table = toy_table()
    head = make_head("xgb", settings=replace(XgbSettings(), discriminant_columns=0), seed=0, device=CPU)
    head.fit(table, lambda _: None)
    assert "shrinkage" not in head.learned_
    assert head.model_.named_steps["xgb"].n_features_in_ == 40
    test = table.read("test")
    assert accuracy(head, test.x, test.y) > 0.9
