"""Classifiers that were kept are read by today's code and say what they said (see `golden/make.py`).

Those in `golden/first` are the first release's: pickles alone, which are not read here any more.
"""

from __future__ import annotations

from pathlib import Path

import joblib
import numpy as np
import pytest
import xgboost
from numpy.typing import NDArray

from models.card import load_classifier
from models.errors import ClassifierError

GOLDEN = Path(__file__).parent / "golden"
FIRST = GOLDEN / "first"

Rows = tuple[NDArray[np.float32], NDArray[np.float32]]


def rows_of(folder: Path) -> Rows:
    """Features (30, 40), and the probabilities (30, 3) that were said of them."""
    with np.load(folder / "rows.npz") as kept:
        return kept["x"], kept["probabilities"]


def test_a_kept_classifier_is_read_with_its_card() -> None:
    x, probabilities = rows_of(GOLDEN)
    head, card = load_classifier(GOLDEN / "xgb.joblib")
    assert head.classes_ == card.classes == ("a", "b", "c")
    assert head.predict_proba(x) == pytest.approx(probabilities, abs=1e-5)
    assert np.ptp(probabilities) > 0.5


@pytest.mark.parametrize("folder", [GOLDEN, FIRST])
def test_a_kept_classifier_is_read_without_this_project(folder: Path) -> None:
    x, probabilities = rows_of(folder)
    assert joblib.load(folder / "xgb.joblib").predict_proba(x) == pytest.approx(probabilities, abs=1e-5)


def test_a_classifier_of_the_first_release_is_to_be_trained_again() -> None:
    with pytest.raises(ClassifierError, match=r"xgb.json is of format 3, expected 5: train it again"):
        load_classifier(FIRST / "xgb.joblib")


def test_kept_trees_are_read_by_xgboost_alone() -> None:
    x, probabilities = rows_of(GOLDEN)
    columns = joblib.load(GOLDEN / "xgb.joblib").named_steps["reduce"].transform(x)
    trees = xgboost.Booster(model_file=GOLDEN / "xgb.ubj")
    assert trees.predict(xgboost.DMatrix(columns)) == pytest.approx(probabilities, abs=1e-5)


def test_the_kept_files_are_small() -> None:
    assert sum(path.stat().st_size for path in GOLDEN.rglob("*") if path.is_file()) < 120_000
