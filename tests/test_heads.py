from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.typing import NDArray
from sklearn.pipeline import Pipeline
from threadpoolctl import threadpool_limits

from features.storage import FileRecord
from features.table.joined import JoinedTable
from features.table.manifest import Manifest, TableSpec
from features.table.table import FeatureTable, Rows
from models.columns.workspace import Lessons, Workspace
from models.errors import DataError, SettingsError
from models.heads.boosted import BoostedHead
from models.heads.head import Head, OnStep, Step
from models.heads.knn import KnnHead
from models.heads.linear import LinearHead
from models.heads.registry import DEFAULTS, HEADS, HeadSettings, make_head
from models.heads.settings import LinearSettings, MlpSettings, XgbSettings
from tests.conftest import CPU, make_tiny_trunk

CLASSES = ("a", "b", "c")


class MemoryTable(JoinedTable):
    """A table of arrays that were never written."""

    def __init__(self, splits: dict[str, Rows], classes: tuple[str, ...]) -> None:
        dim = splits["train"].x.shape[1]
        spec = TableSpec(dataset="toy", classes=classes, source_sha256="", trunk=make_tiny_trunk().spec, dim=dim)
        manifest = Manifest(
            fingerprint=spec.fingerprint,
            transfer_learning=False,
            rows={name: len(rows) for name, rows in splits.items()},
            errors=0,
            shards={},
            ledger=FileRecord(sha256="", bytes=0),
            spec=spec,
        )
        super().__init__([FeatureTable(Path("toy"), manifest)])
        self.splits = splits

    @property
    def dims(self) -> tuple[int, ...]:
        return (self.splits["train"].x.shape[1],)

    def read(self, split: str) -> Rows:
        return self.splits[split]

    def labels(self, split: str) -> NDArray[np.int32]:
        return self.splits[split].y

    def index(self) -> pd.DataFrame:
        parts = [pd.DataFrame({"key": r.keys, "split": split, "label": r.y}) for split, r in self.splits.items()]
        index = pd.concat(parts, ignore_index=True)
        return index.assign(sha256=index["key"], group=None)

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


def fit(head: Head, table: JoinedTable, on_step: OnStep = lambda _: None) -> Head:
    with Workspace() as workspace:
        return head.fit(table, workspace, on_step)


def fitted(name: str, table: JoinedTable, settings: HeadSettings = DEFAULTS, seed: int = 0) -> Head:
    return fit(make_head(name, settings, seed=seed, device=CPU).suited(len(table.classes)), table)


def pipeline_of(head: Head) -> Pipeline:
    assert isinstance(head.model_, Pipeline)
    return head.model_


def trees(table: JoinedTable, settings: XgbSettings) -> Head:
    return fitted("xgb", table, HeadSettings(xgb=settings))


@pytest.fixture(params=list(HEADS))
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


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


def test_the_number_of_threads_moves_predictions_by_no_more_than_rounding() -> None:
    table = toy_table()
    limits: Any = threadpool_limits
    probabilities = []
    for threads in (1, 2):
        with limits(threads):  # XGBoost's, PyTorch's and NumPy's
            probabilities.append(fitted("xgb", table).predict_proba(table.read("test").x))
    assert probabilities[1] == pytest.approx(probabilities[0], abs=1e-4)


def test_learns_two_classes(name: str) -> None:
    splits = {split: toy_rows(90, [0, 1], seed) for seed, split in enumerate(("train", "validation", "test"))}
    head = fitted(name, MemoryTable(splits, CLASSES[:2]))
    assert head.classes_ == ("a", "b")
    assert accuracy(head, splits["test"].x, splits["test"].y) > 0.9


def test_a_class_of_one_training_row(name: str) -> None:
    table = toy_table(labels=(0, 1), validation=(0, 1))
    table.read("train").y[7] = 2
    head = fitted(name, table)
    assert head.predict_proba(table.read("test").x).shape == (90, 3)


def test_reports_its_steps(name: str) -> None:
    steps: list[Step] = []
    head = fit(make_head(name, seed=0, device=CPU), toy_table(), steps.append)
    assert 1 <= len(steps) <= head.steps()
    assert all("validation log-loss" in step.note for step in steps)
    assert min(step.loss for step in steps if step.loss is not None) == pytest.approx(
        head.learned_["validation_log_loss"], abs=1e-6
    )


def test_one_class(name: str) -> None:
    rows = toy_rows(30, [0], 1)
    with pytest.raises(DataError, match=r"has one class only \(a\): two or more are needed"):
        fitted(name, MemoryTable({"train": rows, "validation": rows}, ("a",)))


def test_a_class_without_training_rows(name: str) -> None:
    with pytest.raises(DataError, match=r"has no training row of 1 of its 3 classes \(b\): expected one of each"):
        fitted(name, toy_table(labels=(0, 2)))


def accuracy(head: Head, x: NDArray[np.float32], y: NDArray[np.int32]) -> float:
    return float((head.predict_proba(x).argmax(axis=1) == y).mean())


@pytest.mark.parametrize("classes", [2, 3])
def test_the_linear_head_as_one_layer_says_the_same(classes: int) -> None:
    table = toy_table()
    table = MemoryTable({split: _of_classes(rows, classes) for split, rows in table.splits.items()}, CLASSES[:classes])
    head = fit(LinearHead(LinearSettings(columns=20), seed=0, device=CPU), table)
    assert isinstance(head, LinearHead)
    x = table.read("test").x
    logits = head.softmax().logits(torch.from_numpy(x))
    assert logits.shape == (len(x), classes)
    assert torch.softmax(logits, 1).numpy() == pytest.approx(head.predict_proba(x), abs=1e-5)


def _of_classes(rows: Rows, classes: int) -> Rows:
    kept = rows.y < classes
    return Rows(keys=rows.keys[kept], x=rows.x[kept], y=rows.y[kept])


def test_trees_stop_once_validation_no_longer_improves() -> None:
    table = toy_table()
    steps: list[Step] = []
    head = fit(BoostedHead(XgbSettings(rounds=400, patience=5), seed=0, device=CPU), table, steps.append)
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
    head = trees(table, XgbSettings(columns=20))
    chosen = dict(pipeline_of(head).named_steps["reduce"].transformer_list)["columns"].get_support(indices=True)
    assert len(chosen) == 20
    assert chosen.min() >= 200


def test_trees_on_disk_are_the_trees_in_memory() -> None:
    table = toy_table()
    in_memory = fitted("xgb", table)
    head = trees(table, XgbSettings(external_memory=True))
    x = table.read("test").x
    assert head.predict_proba(x) == pytest.approx(in_memory.predict_proba(x), abs=1e-4)


def test_trees_without_discriminants() -> None:
    table = toy_table()
    head = trees(table, XgbSettings(discriminant_columns=0))
    assert "shrinkage" not in head.learned_
    assert pipeline_of(head).named_steps["xgb"].n_features_in_ == 40
    test = table.read("test")
    assert accuracy(head, test.x, test.y) > 0.9


@pytest.mark.parametrize("name", ["linear", "mlp"])
def test_a_shrinkage_that_is_too_little_for_so_few_rows(name: str) -> None:
    settings = HeadSettings(linear=LinearSettings(shrinkages=(1e-12,)), mlp=MlpSettings(shrinkages=(1e-12,)))
    table = toy_table()
    table.splits["train"] = toy_rows(20, [0, 1, 2], 1)
    with pytest.raises(SettingsError, match=r"a shrinkage of 1e-12 is too little for \d+ training rows: give a larger"):
        fitted(name, table, settings)


class SlowWorkspace(Workspace):
    """Choosing columns takes 100 seconds there, and is said to have taken as long where they are found again."""

    def lessons(self, table: JoinedTable, columns: int, seed: int) -> Lessons:
        return replace(super().lessons(table, columns, seed), seconds=100.0)


def test_what_choosing_columns_took_counts_for_each_head(name: str) -> None:
    head = make_head(name, seed=0, device=CPU)
    with SlowWorkspace() as workspace:
        head.fit(toy_table(), workspace, lambda _: None)
    assert head.fit_seconds_ // 100 == (len(head.parts) or 1)
    assert head.fit_seconds_ % 100 > 0


def test_the_neighbours_that_vote_are_those_that_serve_validation_best(monkeypatch: pytest.MonkeyPatch) -> None:
    table = toy_table()
    for split, rows in table.splits.items():
        noise = np.random.default_rng(len(rows)).normal(size=rows.x.shape) * 8
        table.splits[split] = replace(rows, x=(rows.x + noise).astype(np.float32))
    monkeypatch.setattr("models.columns.workspace.FEW_ROWS", 0)
    head = fitted("knn", table)
    assert isinstance(head, KnnHead)
    validation, model = table.read("validation"), pipeline_of(head)
    losses = {}
    for neighbours in head.settings.neighbours:
        model.set_params(knn__n_neighbors=neighbours)
        share = model.predict_proba(validation.x)[np.arange(len(validation)), validation.y]
        losses[neighbours] = -np.log(np.maximum(share, 1e-12)).mean()
    assert len(set(losses.values())) == len(losses)
    assert head.learned_["neighbours"] == min(losses, key=lambda neighbours: losses[neighbours])
    assert head.learned_["validation_log_loss"] == pytest.approx(min(losses.values()), abs=1e-4)


def test_neighbours_of_few_rows() -> None:
    table = toy_table()
    table.splits["train"] = toy_rows(4, [0, 1, 2], 1)
    head = fitted("knn", table)
    assert head.learned_["neighbours"] <= 4
    assert accuracy(head, table.read("test").x, table.read("test").y) > 0.5


def test_a_row_that_was_trained_on_decides_alone() -> None:
    table = toy_table()
    head, train = fitted("knn", table), table.read("train")
    assert accuracy(head, train.x, train.y) == 1


def test_components_of_many_rows_are_fitted_on_some(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("models.heads.knn.PCA_ROWS", 50)
    table = toy_table()
    head = fitted("knn", table)
    assert pipeline_of(head).named_steps["pca"].n_samples_ == 50
    assert pipeline_of(head).named_steps["knn"].n_samples_fit_ == 150 + 60
    assert pipeline_of(head).named_steps["knn"].get_params()["n_jobs"] is None
    assert accuracy(head, table.read("test").x, table.read("test").y) > 0.9


def test_a_signal_that_comes_while_trees_take_their_rows_ends_the_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("models.heads.boosted._Columns.of_training_rows", interrupted)
    with pytest.raises(KeyboardInterrupt):
        fitted("xgb", toy_table())
