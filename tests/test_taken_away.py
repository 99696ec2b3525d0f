"""What people do with a classifier that they have taken away: all that scikit-learn and xgboost allow."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
import pytest
import sklearn
import xgboost
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import StackingClassifier, VotingClassifier
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import FeatureUnion, Pipeline
from sklearn.utils.validation import check_is_fitted

from features.table.table import Rows
from models.card import save_classifier
from models.heads.registry import HEADS, HeadSettings
from models.heads.settings import KnnSettings, LinearSettings, MlpSettings, XgbSettings
from tests.test_heads import MemoryTable, fitted

SMALL = HeadSettings(
    linear=LinearSettings(iterations=20),
    mlp=MlpSettings(hidden=(16, 16), epochs=3, learning_rate=1e-2),
    knn=KnnSettings(components=12),
)

DIM = 30

CHANGES: dict[str, dict[str, object]] = {
    "xgb": {
        "xgb__n_jobs": 2,
        "xgb__verbosity": 0,
        "xgb__device": "cuda",
        "xgb__max_depth": 9,
        "xgb__n_estimators": 1,
        "xgb__base_score": None,
    },
    "linear": {"linear__C": 3.0, "linear__max_iter": 7},
    "mlp": {"mlp__alpha": 1.0, "mlp__hidden_layer_sizes": (3,)},
    "knn": {"knn__n_jobs": 2, "pca__random_state": 5},
    "hybrid": {"xgb__xgb__n_jobs": 2, "xgb__xgb__device": "cuda", "n_jobs": 1, "flatten_transform": False},
}
"""Parameters that say how a model is fitted or run, not what it has learnt."""


def rows(count: int, classes: int, seed: int) -> Rows:
    """Rows of `classes` that overlap, with zeros as a network's ReLU leaves them."""
    random = np.random.default_rng(seed)
    y = np.resize(np.arange(classes, dtype=np.int32), count)
    centres = np.random.default_rng(classes).normal(size=(classes, DIM))
    x = np.maximum(centres[y] + random.normal(size=(count, DIM)), 0).astype(np.float16).astype(np.float32)
    return Rows(keys=np.array([f"{seed}/{row}" for row in range(count)], dtype=object), x=x, y=y)


@dataclass(frozen=True)
class Taken:
    """A joblib of the head `name`, rows that it has learnt from and others, and what it has said of the others."""

    name: str
    classes: int
    path: Path
    learnt: Rows
    x: NDArray[np.float32]
    said: NDArray[np.float32]

    def load(self) -> Any:
        return joblib.load(self.path)

    def check(self, model: Any, x: object = None) -> None:
        """Raise unless `model` says what was said."""
        assert np.allclose(model.predict_proba(self.x if x is None else x), self.said, rtol=0, atol=1e-6)


def take(name: str, classes: int, folder: Path) -> Taken:
    """Train a head on few rows and save it."""
    counts = {"train": max(60, 2 * classes), "validation": max(12, classes), "test": max(100, classes)}
    splits = {split: rows(count, classes, seed) for seed, (split, count) in enumerate(counts.items())}
    table = MemoryTable(splits, tuple(map(str, range(classes))))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("models.heads.hybrid.PRIOR_ROWS", 1e9)  # equal weights: none of its parts is left out
        head = fitted(name, table, replace(SMALL, xgb=XgbSettings(rounds=15 if classes < 1000 else 2)))
    path = save_classifier(head, table, folder, weights="random", validation={"accuracy": 1.0})
    x = splits["test"].x
    return Taken(name, classes, path, splits["train"], x, head.predict_proba(x))


SLOW = [pytest.param((name, 1000), marks=pytest.mark.slow) for name in HEADS]


@pytest.fixture(scope="module", params=[*((name, classes) for name in HEADS for classes in (2, 3, 10)), *SLOW], ids=str)
def taken(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Taken:
    name, classes = request.param
    return take(name, classes, tmp_path_factory.mktemp(name))


@pytest.fixture(scope="module", params=list(HEADS))
def of_ten(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Taken:
    return take(request.param, 10, tmp_path_factory.mktemp(request.param))


@pytest.fixture(scope="module")
def trees(tmp_path_factory: pytest.TempPathFactory) -> Taken:
    return take("xgb", 3, tmp_path_factory.mktemp("xgb"))


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Refits on few rows do not converge, and there is no GPU."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def test_setting_parameters_changes_nothing_that_was_learnt(taken: Taken) -> None:
    taken.check(taken.load())
    for name, value in CHANGES[taken.name].items():
        model = taken.load().set_params(**{name: value})
        taken.check(model)
        taken.check(pickle.loads(pickle.dumps(model)))
        assert model.get_params()[name] == value
    model = taken.load()
    taken.check(model.set_params(**model.get_params()))


def test_the_fitted_trees_of_a_hybrid_take_parameters_too(tmp_path: Path) -> None:
    hybrid = take("hybrid", 3, tmp_path)
    model = hybrid.load()
    model.named_estimators_["xgb"].set_params(xgb__n_jobs=2, xgb__max_depth=9)
    hybrid.check(model)


def test_copies_say_the_same(taken: Taken) -> None:
    model = taken.load()
    for copied in (copy.copy(model), copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        taken.check(copied)


def test_it_shows_itself_as_fitted(taken: Taken) -> None:
    model = taken.load()
    check_is_fitted(model)
    assert model.n_features_in_ == DIM
    assert list(model.classes_) == list(range(taken.classes))
    assert "Classifier" in repr(model) + model._repr_html_() or "LogisticRegression" in repr(model)
    assert model.__sklearn_tags__().estimator_type == "classifier"


def test_data_frames_and_feature_names(taken: Taken) -> None:
    model = taken.load()
    frame = pd.DataFrame(taken.x, columns=[f"f{number}" for number in range(DIM)])
    taken.check(model, frame)
    for part in getattr(model, "estimators_", [model]):
        assert len(part[:-1].get_feature_names_out()) == part[-1].n_features_in_
    pandas: Any = sklearn.config_context(transform_output="pandas")
    with pandas:
        taken.check(model)
        taken.check(model, frame)


def test_threads_at_once(of_ten: Taken) -> None:
    model = of_ten.load()
    with ThreadPoolExecutor(4) as pool:
        for said in pool.map(model.predict_proba, [of_ten.x] * 12):
            assert said == pytest.approx(of_ten.said, abs=1e-6)


@pytest.mark.parametrize("classes", [2, 3, 12])
def test_a_clone_learns_any_number_of_classes(of_ten: Taken, classes: int) -> None:
    model = clone(of_ten.load())
    other = rows(60, classes, seed=7)
    if of_ten.name == "xgb" and classes == 2:  # as xgboost has it of its own: multi:softprob is no objective for two
        with pytest.raises(xgboost.core.XGBoostError, match="num_class"):
            model.fit(other.x, other.y)
        model.set_params(xgb__objective="binary:logistic")
    said = model.fit(other.x, other.y).predict_proba(other.x)
    assert said.shape == (60, classes)
    assert (said.argmax(axis=1) == other.y).mean() > 1.5 / classes


def test_a_clone_of_two_classes_learns_ten(tmp_path: Path) -> None:
    other = rows(60, 10, seed=7)
    for name in HEADS:
        assert clone(take(name, 2, tmp_path).load()).fit(other.x, other.y).predict_proba(other.x).shape == (60, 10)


@pytest.mark.slow
def test_estimators_that_take_estimators(of_ten: Taken) -> None:
    model, learnt = of_ten.load(), of_ten.learnt
    frozen: Any = FrozenEstimator
    for outer in (
        CalibratedClassifierCV(frozen(model), cv=2),
        CalibratedClassifierCV(model, cv=2),
        VotingClassifier([("ours", model)], voting="soft"),
        StackingClassifier([("ours", model)], cv=2),
    ):
        assert np.shape(outer.fit(learnt.x, learnt.y).predict_proba(of_ten.x)) == (100, 10)
    assert len(cross_val_score(model, learnt.x, learnt.y, cv=2, error_score="raise")) == 2
    of_ten.check(model)


PROCESSES = """
import multiprocessing, sys
import joblib, numpy as np

def say():
    return model.predict_proba(x)

x = np.load(sys.argv[1])
for path in sys.argv[2:]:
    model = joblib.load(path)
    told = [say()]
    with multiprocessing.get_context("fork").Pool(1) as pool:
        told.append(pool.apply_async(say).get(timeout=60))
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        told.append(pool.apply_async(model.predict_proba, (x,)).get(timeout=60))
    told += joblib.Parallel(n_jobs=2, backend="loky")(joblib.delayed(model.predict_proba)(x) for _ in range(2))
    assert all(np.allclose(said, told[0], atol=1e-6) for said in told), path
"""


@pytest.mark.slow
def test_processes_that_begin_after_a_prediction(tmp_path: Path) -> None:
    paths = [take(name, 10, tmp_path).path for name in HEADS]
    np.save(tmp_path / "x.npy", rows(3000, 10, seed=3).x)  # enough for threads, where a library uses some
    arguments = map(str, [tmp_path / "x.npy", *paths])
    subprocess.run([sys.executable, "-c", PROCESSES, *arguments], cwd=tmp_path, check=True, timeout=300)


def made_by_hand(model: Any) -> Iterator[Any]:
    """The estimators that a model is made of."""
    if isinstance(model, (Pipeline, FeatureUnion)):
        for step in model.named_steps.values() if isinstance(model, Pipeline) else model.named_transformers.values():
            yield from made_by_hand(step)
    else:
        yield model
        for part in getattr(model, "estimators_", []):
            yield from made_by_hand(part)


def kinds(estimator: Any) -> dict[str, object]:
    """What `vars` has, by name, of arrays their kind and dimensions."""
    arrays = {name: np.asarray(value) for name, value in vars(estimator).items() if isinstance(value, np.ndarray)}
    return dict.fromkeys(vars(estimator)) | {name: (a.dtype.kind, a.ndim) for name, a in arrays.items()}


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("name", list(HEADS))
def test_each_estimator_has_what_its_fit_leaves(name: str, classes: int, tmp_path: Path) -> None:
    for estimator in made_by_hand(take(name, classes, tmp_path).load()):
        other = rows(60, classes, seed=7)
        x = np.resize(other.x, (60, estimator.n_features_in_))
        genuine = clone(estimator).fit(x, other.y)
        assert kinds(estimator) == kinds(genuine), type(estimator)
        assert repr(estimator.get_params()) == repr(genuine.get_params())


@pytest.mark.parametrize("classes", [2, 3])
def test_the_ubj_alone_says_what_the_trees_say(classes: int, tmp_path: Path) -> None:
    taken = take("xgb", classes, tmp_path)
    columns = taken.load()[:-1].transform(taken.x)
    assert (columns == 0).any()
    said = xgboost.Booster(model_file=taken.path.with_suffix(".ubj")).predict(xgboost.DMatrix(columns))
    assert said == pytest.approx(taken.said if classes > 2 else taken.said[:, 1], abs=1e-6)


def test_contributions_add_up_to_the_margins(trees: Taken) -> None:
    model = trees.load()
    columns = model[:-1].transform(trees.x)
    shares = model[-1].get_booster().predict(xgboost.DMatrix(columns), pred_contribs=True)
    margins = model[-1].predict(columns, output_margin=True)
    assert shares.shape == (100, 3, model[-1].n_features_in_ + 1)
    assert shares.sum(axis=2) == pytest.approx(margins, abs=1e-4)


def test_onnx_says_the_same(taken: Taken) -> None:
    skl2onnx = pytest.importorskip("skl2onnx", reason="the converters to ONNX are not installed")
    runtime = pytest.importorskip("onnxruntime", reason="ONNX Runtime is not installed")
    xgboost_to_onnx = pytest.importorskip("onnxmltools.convert.xgboost.operator_converters.XGBoost")
    from skl2onnx.common.shape_calculator import calculate_linear_classifier_output_shapes as shapes

    skl2onnx.update_registered_converter(
        xgboost.XGBClassifier,
        "XGBClassifier",
        shapes,
        xgboost_to_onnx.convert_xgboost,
        options={"nocl": [True, False], "zipmap": [True, False, "columns"]},
    )
    if taken.name == "knn":
        pytest.skip("skl2onnx lets neighbours vote alike: it takes their distances for negative")
    model = taken.load()
    if taken.name == "hybrid":
        model.set_params(flatten_transform=False)  # the only value that its converter knows
    converted = skl2onnx.to_onnx(
        model, taken.x[:1], options={id(model): {"zipmap": False}}, target_opset={"": 18, "ai.onnx.ml": 3}
    )
    session = runtime.InferenceSession(converted.SerializeToString(), providers=["CPUExecutionProvider"])
    assert np.allclose(session.run(None, {"X": taken.x})[1], taken.said, rtol=0, atol=1e-5)
