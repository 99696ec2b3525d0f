from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from models.columns import discriminant
from models.columns.discriminant import FOLDS, Direction, fit_discriminants
from models.columns.moments import Moments, fold_of
from models.columns.workspace import Scratch
from tests.conftest import CPU
from tests.test_heads import MemoryTable, toy_table


def rounded_table() -> MemoryTable:
    """Rows that float16 can hold."""
    table = toy_table()
    for split, rows in table.splits.items():
        table.splits[split] = replace(rows, x=rows.x.astype(np.float16).astype(np.float32))
    return table


def scratches(table: MemoryTable, columns: int = 40) -> tuple[Scratch, Scratch]:
    return Scratch(table, "train", np.arange(columns)), Scratch(table, "validation", np.arange(columns))


def test_a_scratch_holds_the_chosen_columns() -> None:
    table = rounded_table()
    scratch = Scratch(table, "train", np.array([3, 7]))
    rows = table.read("train")
    assert np.array_equal(scratch.read().numpy(), rows.x[:, [3, 7]])
    assert np.array_equal(scratch.labels, rows.y)
    parts = [part for part, _ in scratch.batches(64)]
    assert [(part.start, part.stop) for part in parts] == [(0, 64), (64, 128), (128, 150)]


def test_axes_are_scikit_learns() -> None:
    table = rounded_table()
    found = fit_discriminants(*scratches(table, 39), 3, CPU)  # the last column never changes
    rows = table.read("train")
    x = rows.x[:, :39].astype(np.float64)
    expected = LinearDiscriminantAnalysis(solver="eigen", shrinkage=found.shrinkage).fit(x, rows.y).transform(x)
    axes = found.model.transform(x)[:, :2]
    for axis in range(2):
        assert abs(np.corrcoef(axes[:, axis], expected[:, axis])[0, 1]) == pytest.approx(1, abs=1e-4)
    assert found.model.transform(x).shape == (150, 2 + 3)


def test_a_fold_has_not_seen_its_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(discriminant, "SHRINKAGES", (0.1,))
    table = rounded_table()
    before = fit_discriminants(*scratches(table), 3, CPU)
    rows = table.read("train")
    mine = (fold_of(slice(0, len(rows)), FOLDS) == 0)[:, None]
    table.splits["train"] = replace(rows, x=np.where(mine, -rows.x, rows.x))
    after = fit_discriminants(*scratches(table), 3, CPU)
    changes = [
        float((new[:, 2:] - old[:, 2:]).abs().max() / old[:, 2:].abs().max())
        for old, new in zip(before.fold_weights, after.fold_weights, strict=True)
    ]
    assert changes[0] < 0.02
    assert min(changes[1:]) > 0.1
    assert len(changes) == FOLDS


def test_a_shrinkage_that_is_too_little_without_a_fold_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = fit_discriminants(*scratches(rounded_table()), 3, CPU).shrinkage

    def solve(moments: Moments, shrinkage: float) -> Direction:
        if shrinkage == chosen and moments.counts.sum() < 150:
            raise RuntimeError("not positive-definite")
        return real(moments, shrinkage)

    real = discriminant.solve
    monkeypatch.setattr(discriminant, "solve", solve)
    found = fit_discriminants(*scratches(rounded_table()), 3, CPU)
    assert found.shrinkage in set(discriminant.SHRINKAGES) - {chosen}
    assert len(found.fold_weights) == FOLDS
