"""A classifier that was kept (see `golden/make.py`) is read by today's code and says what it said."""

from __future__ import annotations

from pathlib import Path

import joblib
import numpy as np
import pytest
import xgboost
from numpy.typing import NDArray

from models.card import load_classifier

GOLDEN = Path(__file__).parent / "golden"

Rows = tuple[NDArray[np.float32], NDArray[np.float32]]


@pytest.fixture
def rows() -> Rows:
    """Features (30, 40), and the probabilities (30, 3) that were said of them."""
    with np.load(GOLDEN / "rows.npz") as kept:
        return kept["x"], kept["probabilities"]


def test_a_kept_classifier_is_read_with_its_card(rows: Rows) -> None:
    x, probabilities = rows
    head, card = load_classifier(GOLDEN / "xgb.joblib")
    assert head.classes_ == card.classes == ("a", "b", "c")
    assert head.predict_proba(x) == pytest.approx(probabilities, abs=1e-5)
    assert np.ptp(probabilities) > 0.5


def test_a_kept_classifier_is_read_without_this_project(rows: Rows) -> None:
    x, probabilities = rows
    assert joblib.load(GOLDEN / "xgb.joblib").predict_proba(x) == pytest.approx(probabilities, abs=1e-5)


def test_kept_trees_are_read_by_xgboost_alone(rows: Rows) -> None:
    x, probabilities = rows
    columns = joblib.load(GOLDEN / "xgb.joblib").named_steps["reduce"].transform(x)
    trees = xgboost.Booster(model_file=GOLDEN / "xgb.ubj")
    assert trees.predict(xgboost.DMatrix(columns, missing=0.0)) == pytest.approx(probabilities, abs=1e-5)


def test_the_kept_files_are_small() -> None:
    assert sum(path.stat().st_size for path in GOLDEN.iterdir() if path.is_file()) < 100_000
