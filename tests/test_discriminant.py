from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from models.columns import discriminant
from models.columns.discriminant import FOLDS, Discriminants, as_projection, fit_discriminants
from models.columns.moments import fold_of
from models.columns.workspace import Workspace
from tests.conftest import CPU
from tests.test_heads import MemoryTable
from tests.test_workspace import rounded_table


def fit(table: MemoryTable, columns: int = 40) -> Discriminants:
    with Workspace() as workspace:
        return fit_discriminants(workspace.store(table, "train", np.arange(columns)), 3, CPU)


def test_axes_are_scikit_learns() -> None:
    table = rounded_table()
    found = fit(table, 39)  # the last column never changes
    rows = table.read("train")
    x = rows.x[:, :39].astype(np.float64)
    expected = LinearDiscriminantAnalysis(solver="eigen", shrinkage=found.shrinkage).fit(x, rows.y).transform(x)
    made = as_projection(found.weights.numpy(), seed=0).transform(x)
    axes = made[:, :2]
    for axis in range(2):
        assert abs(np.corrcoef(axes[:, axis], expected[:, axis])[0, 1]) == pytest.approx(1, abs=1e-4)
    assert made == pytest.approx(x @ found.weights.numpy(), abs=1e-4)
    assert made.shape == (150, 2 + 3)


def test_a_fold_has_not_seen_its_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(discriminant, "SHRINKAGES", (0.1,))
    table = rounded_table()
    before = fit(table)
    rows = table.read("train")
    mine = (fold_of(slice(0, len(rows)), FOLDS, 0) == 0)[:, None]
    table.splits["train"] = replace(rows, x=np.where(mine, -rows.x, rows.x))
    after = fit(table)
    changes = [
        float((new[:, 2:] - old[:, 2:]).abs().max() / old[:, 2:].abs().max())
        for old, new in zip(before.fold_weights, after.fold_weights, strict=True)
    ]
    assert changes[0] < 0.02
    assert min(changes[1:]) > 0.1
    assert len(changes) == FOLDS


def test_left_out_rows_are_judged_alike_in_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = fit(rounded_table())
    monkeypatch.setattr(discriminant, "BATCH_ROWS", 7)
    assert fit(rounded_table()).shrinkage == whole.shrinkage
