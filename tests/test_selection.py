from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from sklearn.feature_selection import f_classif

from models.columns.selection import f_values, rank_by_anova, select_best
from tests.test_heads import toy_table


def test_f_values_are_scikit_learns() -> None:
    table = toy_table()
    found = f_values(table)
    rows = table.read("train")
    expected, _ = f_classif(rows.x[:, :-1].astype(np.float64), rows.y)
    assert found[:-1] == pytest.approx(expected, rel=1e-4)
    assert found[-1] == -1  # the column that never changes


def test_a_large_offset_does_not_swallow_the_differences() -> None:
    table = toy_table()
    expected = f_values(table)
    for split, rows in table.splits.items():
        table.splits[split] = replace(rows, x=rows.x + 1000)
    assert f_values(table) == pytest.approx(expected, rel=1e-2)


def test_no_more_columns_than_there_are() -> None:
    places = rank_by_anova(toy_table())
    assert select_best(places, 10_000).get_support().sum() == 40
    support = select_best(places, 39).get_support(indices=True)
    assert 39 not in support
