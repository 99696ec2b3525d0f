from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.special import softmax as shares_of
from sklearn.linear_model import LogisticRegression

from models.columns.discriminant import solve
from models.columns.moments import Frame, Moments, moments_of_folds
from models.columns.workspace import StoredRows, Workspace
from models.heads.linear import LinearHead
from models.heads.settings import LinearSettings
from models.heads.softmax import SoftmaxRegression, blend_logits
from tests.conftest import CPU
from tests.test_workspace import rounded_table

PENALTY = 0.03


def moments(train: StoredRows) -> Moments:
    (whole,) = moments_of_folds(train, 3, 1, Frame.spanned(train, CPU))
    return whole


@pytest.mark.parametrize("shrinkage", [1.0, 0.2])
def test_it_is_scikit_learns_regression_on_whitened_rows(shrinkage: float, workspace: Workspace) -> None:
    train = workspace.store(rounded_table(), "train", np.arange(40))
    x, y = train.read(), torch.from_numpy(train.labels).long()
    found = moments(train)
    whitening = found.whitening(shrinkage)
    softmax = SoftmaxRegression(x, y, whitening, found.counts / found.counts.sum()).fit(PENALTY, 500)
    whitened = ((x.float() - whitening.mean) @ whitening.inverse.T).double().numpy()
    by_hand = LogisticRegression(C=1 / (PENALTY * len(y)), max_iter=5000, tol=1e-8).fit(whitened, train.labels)
    logits = softmax.logits(x).double().numpy()
    assert shares_of(logits, axis=1) == pytest.approx(by_hand.predict_proba(whitened), abs=0.01)


def test_rows_of_a_class_vary_alike_in_every_whitened_direction(workspace: Workspace) -> None:
    train = workspace.store(rounded_table(), "train", np.arange(39))
    found = moments(train)
    with ExitStack() as files:
        u = found.whitening(1e-4).of(train, files).read().float()
    within = torch.cat([u[train.labels == label] - u[train.labels == label].mean(dim=0) for label in range(3)])
    assert (within.T @ within / len(u)).numpy() == pytest.approx(np.eye(39), abs=0.05)


@pytest.mark.parametrize("shrinkage", [1.0, 0.9, 0.1])
def test_the_covariance_is_shrunk_towards_its_mean_variance(shrinkage: float, workspace: Workspace) -> None:
    train = workspace.store(rounded_table(), "train", np.arange(40))
    x = train.read().double().numpy()
    rest = np.concatenate([x[train.labels == label] - x[train.labels == label].mean(axis=0) for label in range(3)])
    within = rest.T @ rest / len(rest)
    shrunk = (1 - shrinkage) * within + shrinkage * np.trace(within) / 40 * np.eye(40)
    root = moments(train).root_within(shrinkage)
    assert (root @ root.T).numpy() == pytest.approx(shrunk, abs=1e-4)


@pytest.mark.parametrize("columns", [40, 400])
def test_few_rows_are_taken_along_the_axes_that_span_them(columns: int, workspace: Workspace) -> None:
    table = rounded_table()
    for split, rows in table.splits.items():
        more = np.tile(rows.x, (1, columns // 40)) + np.random.default_rng(len(rows)).normal(size=(len(rows), columns))
        table.splits[split] = replace(rows, x=more.astype(np.float16).astype(np.float32))
    train, other = (workspace.store(table, split, np.arange(columns)) for split in ("train", "validation"))
    whole, spanned = Frame(origin=train.read().double().mean(dim=0).float()), Frame.spanned(train, CPU)
    assert (spanned.axes is not None) == (2 * len(train) <= columns)
    scores = []
    for frame in (whole, spanned):
        (found,) = moments_of_folds(train, 3, 1, frame)
        scores.append(solve(found, 0.3).scores(frame.of(other.read())))
    assert scores[1] == pytest.approx(scores[0], abs=1e-2)


def test_a_fit_starts_where_the_one_before_ended(workspace: Workspace) -> None:
    train = workspace.store(rounded_table(), "train", np.arange(40))
    found = moments(train)
    whitening = found.whitening(1.0)
    regression = SoftmaxRegression(train.read(), torch.from_numpy(train.labels).long(), whitening, found.counts / 150)
    regression.fit(PENALTY, 500)
    first = regression.fit(PENALTY, 1)
    assert torch.allclose(first.weights, regression.fit(PENALTY, 1).weights, atol=1e-3)


def test_the_head_is_one_linear_model_of_all_shrinkages(workspace: Workspace) -> None:
    settings = LinearSettings(shrinkages=(1.0, 0.5), penalties=(PENALTY,))
    head = LinearHead(settings, seed=0, device=CPU).fit(rounded_table(), workspace, lambda _: None)
    assert isinstance(head.model_.named_steps["linear"], LogisticRegression)
    assert head.learned_["penalties"] == {"1": PENALTY, "0.5": PENALTY}
    assert set(head.learned_["weights"]) == {"1", "0.5"}


def test_what_knows_nothing_gets_no_weight() -> None:
    random = np.random.default_rng(0)
    y = random.integers(0, 3, 300).astype(np.int32)
    knows = np.eye(3)[y] * 2 + random.normal(size=(300, 3))
    shares = blend_logits([knows, random.normal(size=(300, 3)) - np.eye(3)[y]], y)
    assert shares[0] > 1
    assert shares[1] == 0
