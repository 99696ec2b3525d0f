from __future__ import annotations

from pathlib import Path

import joblib
import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.ensemble import VotingClassifier
from sklearn.utils.estimator_checks import check_estimator

from models.heads.head import Head, Step
from models.heads.hybrid import blend
from tests.test_heads import fit, fitted, toy_table


def shares(right: NDArray[np.float64], y: NDArray[np.int32]) -> NDArray[np.float32]:
    """Probabilities of two classes that give the true one `right`."""
    found = np.stack([1 - right, right], axis=1)
    return np.where(y[:, None] == 1, found, found[:, ::-1]).astype(np.float32)


def voting_of(head: Head) -> VotingClassifier:
    assert isinstance(head.model_, VotingClassifier)
    return head.model_


def test_heads_that_err_on_different_rows_share_the_weight() -> None:
    y = np.tile([0, 1], 500).astype(np.int32)
    odd = np.arange(1000) % 4 < 2
    first, second = shares(np.where(odd, 0.9, 0.2), y), shares(np.where(odd, 0.2, 0.9), y)
    weights, loss = blend([first, second], y)
    assert weights == pytest.approx([0.5, 0.5], abs=1e-3)
    assert loss == pytest.approx(-np.log(0.55), abs=1e-3)


def test_a_head_that_adds_nothing_has_no_weight() -> None:
    y = np.tile([0, 1], 500).astype(np.int32)
    good, guess = shares(np.full(1000, 0.95), y), shares(np.full(1000, 0.5), y)
    weights, loss = blend([good, guess], y)
    assert list(weights) == [1, 0]
    assert loss == pytest.approx(-np.log(0.95), abs=1e-6)


def test_few_rows_hardly_move_the_weights() -> None:
    y = np.array([0, 1], np.int32)
    weights, _ = blend([shares(np.full(2, 0.9), y), shares(np.full(2, 0.7), y)], y)
    assert weights == pytest.approx([0.5, 0.5], abs=0.1)


def test_its_parts_travel_in_one_scikit_learn_model() -> None:
    table = toy_table()
    head = fitted("hybrid", table)
    model = voting_of(head)
    weights = head.learned_["weights"]
    assert set(weights) == {"xgb", "linear", "mlp"}
    assert sum(weights.values()) == pytest.approx(1)
    assert set(model.named_estimators_) == {name for name, weight in weights.items() if weight}
    x = table.read("test").x
    by_hand = sum(weights[name] * part.predict_proba(x) for name, part in model.named_estimators_.items())
    assert head.predict_proba(x) == pytest.approx(by_hand, abs=1e-6)
    assert np.array_equal(model.predict(x), head.predict_proba(x).argmax(axis=1))


@pytest.mark.filterwarnings("ignore")
def test_a_clone_of_a_loaded_hybrid_learns_other_data(tmp_path: Path) -> None:
    table = toy_table()
    fitted("hybrid", table).save(tmp_path / "hybrid.joblib", ".joblib")
    model = clone(joblib.load(tmp_path / "hybrid.joblib"))
    train, test = table.read("train"), table.read("test")
    two = train.y < 2
    assert (model.fit(train.x, train.y).predict(test.x) == test.y).mean() > 0.9
    assert model.fit(train.x[two], train.y[two]).predict_proba(test.x).shape == (90, 2)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_clone_passes_all_of_scikit_learn_s_checks() -> None:
    model = clone(voting_of(fitted("hybrid", toy_table())))
    assert set(model.get_params()) > {"xgb", "linear", "mlp"}
    check_estimator(model.set_params(xgb__xgb__n_estimators=5, mlp__mlp__hidden_layer_sizes=(16,)))


def test_parts_that_have_learnt_do_not_learn_again() -> None:
    table = toy_table()
    whole = fitted("hybrid", table)
    again = whole.with_settings({})
    again.take(whole.parts)
    steps: list[Step] = []
    fit(again, table, steps.append)
    assert len(steps) == again.steps() == 1
    assert steps[0].loss == again.learned_["validation_log_loss"]
    assert again.fit_seconds_ > sum(part.fit_seconds_ for part in whole.parts)
    x = table.read("test").x
    assert np.array_equal(again.predict_proba(x), whole.predict_proba(x))
