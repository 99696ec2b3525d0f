"""Boosted trees: the columns that tell classes apart and what a linear discriminant makes of them, then XGBoost.

Trees pay for every column at every tree, and the discriminants carry most of what the other columns know: few columns,
sampled at each node, cost nothing in accuracy and save most of the time.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
import xgboost
from numpy.typing import NDArray
from sklearn.feature_selection import SelectKBest
from sklearn.pipeline import FeatureUnion, Pipeline
from xgboost import XGBClassifier

from features.devices import resolve_device
from models.calibration import surprises
from models.columns.discriminant import FOLDS, Discriminants, as_projection, fit_discriminants
from models.columns.moments import fold_of
from models.columns.selection import select_best
from models.columns.workspace import Chosen, Lessons, StoredRows
from models.fitted import Arrays, array_of, as_fitted
from models.heads.head import (
    ColumnsHead,
    Head,
    JsonObject,
    OnStep,
    Probabilities,
    Step,
    chosen_columns,
)
from models.heads.settings import XgbSettings
from models.together import mean


class BoostedHead(ColumnsHead):
    """XGBoost on chosen columns and discriminants; saved as a scikit-learn Pipeline that ends in an XGBClassifier."""

    suffixes: ClassVar[tuple[str, ...]] = (*ColumnsHead.suffixes, ".ubj")
    shared: ClassVar[bool] = True
    settings: XgbSettings

    def __init__(self, settings: XgbSettings, *, seed: int, device: torch.device, parts: Sequence[Head] = ()) -> None:
        where = resolve_device("cuda") if settings.tree_method == "gpu_hist" else device
        super().__init__(settings, seed=seed, device=where, parts=parts)

    @property
    def columns(self) -> int:
        """As many columns as the trees or the discriminants see, whichever see more."""
        return max(self.settings.columns, self.settings.discriminant_columns)

    def parameters(self) -> JsonObject:
        """The settings and the seed; gpu_hist is hist, the device is told apart."""
        return super().parameters() | {"tree_method": "hist"}

    def steps(self) -> int:
        """Boosting rounds."""
        return self.settings.rounds

    def _fit(self, lessons: Lessons, classes: int, on_step: OnStep) -> tuple[Arrays, Probabilities]:
        with ExitStack() as files:
            learners = [self._learner(chosen, classes, files) for chosen in lessons.tries]
            rounds, loss, probabilities = self._boost(learners, lessons.labels, on_step)
            last = learners[0]
            if lessons.whole:
                last = self._learner(lessons.whole, classes, files)
                last.learn(rounds)
            self.device_, discriminants = last.device, last.discriminants
            trees = np.array(last.booster[:rounds].save_raw("ubj"))
            for learner in (*learners, last):
                learner.close()
        self.learned_ = {"rounds": rounds, "validation_log_loss": loss}
        learnt = {
            "places": lessons.last.places,
            "columns": np.array(min(self.settings.columns, len(lessons.last.places))),
        }
        if discriminants:
            self.learned_["shrinkage"] = discriminants.shrinkage
            learnt["discriminants"] = discriminants.weights.cpu().numpy()
        return {**learnt, "trees": trees}, probabilities

    def sharper(self, arrays: Arrays, sharpness: float) -> Arrays:
        return {**arrays, "trees": _scaled(arrays["trees"], sharpness)}

    def build(self, arrays: Arrays) -> Pipeline:
        columns = int(array_of(arrays, "columns", np.int64))
        steps: list[tuple[str, SelectKBest | Pipeline]] = [("columns", chosen_columns(arrays, columns))]
        if "discriminants" in arrays:
            weights = array_of(arrays, "discriminants", np.float32, None, None)
            select, axes = chosen_columns(arrays, len(weights)), as_projection(weights, self.seed)
            steps.append(("discriminants", Pipeline([("columns", select), ("axes", axes)])))
            columns += weights.shape[1]
        classifier = self._classifier(array_of(arrays, "trees", np.uint8, None))
        if classifier.n_features_in_ != columns:
            raise ValueError(f"`trees` take {classifier.n_features_in_} columns, expected {columns}")
        return Pipeline([("reduce", FeatureUnion(steps)), ("xgb", classifier)])

    def unfitted(self, model: Any) -> Any:
        """See Head; its objective is that of a classifier which has not seen yet how many classes there are."""
        return super().unfitted(model).set_params(xgb__objective=XGBClassifier().objective)

    def _learner(self, chosen: Chosen, classes: int, files: ExitStack) -> _Learner:
        settings = self.settings
        support = chosen.select.get_support(indices=True)
        few = select_best(chosen.places, settings.columns).get_support()[support]
        discriminants = None
        if settings.discriminant_columns:
            discriminants = fit_discriminants(chosen.train, classes, self.device)
        columns = _Columns(np.flatnonzero(few), discriminants, self.device)
        folder = Path(files.enter_context(tempfile.TemporaryDirectory())) if settings.external_memory else None
        matrices = _matrices(chosen, columns, settings.max_bin, folder)
        number = {"num_class": classes} if classes > 2 else {}
        told = {**self._tree_parameters(classes), **number, "device": str(self.device), "seed": self.seed}
        return _Learner(told, matrices, discriminants)

    def _boost(
        self, learners: Sequence[_Learner], labels: NDArray[np.int32], on_step: OnStep
    ) -> tuple[int, float, Probabilities]:
        """How many rounds give unseen rows, those of all learners together, the lowest log-loss; and what they say."""
        best: tuple[int, float, Probabilities] | None = None
        for number in range(1, self.settings.rounds + 1):
            said = np.concatenate([learner.go_on() for learner in learners])
            loss = mean(surprises(said, labels, float(np.finfo(np.float32).eps)))
            on_step(Step(f"validation log-loss {loss:.4f}", loss))
            if best is None or loss < best[1]:
                best = number, loss, said
            elif number - best[0] >= self.settings.patience:
                break
        assert best  # there is one round at least
        return best

    def _tree_parameters(self, classes: int) -> dict[str, Any]:
        """Those that xgboost's own interface and that of scikit-learn call the same."""
        settings = self.settings
        return {
            "objective": "multi:softprob" if classes > 2 else "binary:logistic",
            "learning_rate": settings.learning_rate,
            "max_depth": settings.max_depth,
            "max_bin": settings.max_bin,
            "colsample_bynode": settings.column_share,
            # Of a thousand classes p is a thousandth at first, and a leaf of weight 1, the least sum of p (1 − p) in it
            # by default, would have to hold hundreds of rows.
            "min_child_weight": min(1.0, 10 / classes),
            "tree_method": "hist",
        }

    def _classifier(self, trees: NDArray[np.uint8]) -> XGBClassifier:
        """The rounds up to the best one, as UBJSON, as scikit-learn's users know them.

        They are loaded into a new booster because one that was trained on cuda would predict on cuda wherever it is.
        `set_params` of a fitted classifier hands all its parameters to the booster, so that these must fit what it is.
        """
        booster = xgboost.Booster()
        booster.load_model(bytearray(trees))
        told = json.loads(booster.save_config())["learner"]["learner_model_param"]["num_class"]
        classes = max(2, int(told))  # of two classes XGBoost counts none
        classifier = XGBClassifier(
            **self._tree_parameters(classes),
            n_estimators=booster.num_boosted_rounds(),
            device="cpu",
            n_jobs=1,  # threads would hang after a fork, and predicting takes far less than the features do
            random_state=self.seed,
        )
        as_fitted(classifier, _Booster=booster, n_classes_=classes).set_params(device="cpu")
        return classifier

    def save(self, path: Path, suffix: str) -> None:
        """See Head; the trees alone as UBJSON besides."""
        if suffix == ".ubj":
            path.write_bytes(self.arrays_["trees"].tobytes())
        else:
            super().save(path, suffix)


def _scaled(trees: NDArray[np.uint8], factor: float) -> NDArray[np.uint8]:
    """Trees, as UBJSON, whose margins are `factor` times as high: the first ones add what the base is short of."""
    booster = xgboost.Booster(model_file=bytearray(trees))
    more = (factor - 1) * base_margins(booster).astype(np.float64)
    scaled = _with_leaves(booster, lambda leaf, tree: factor * leaf + (more[tree] if tree < len(more) else 0.0))
    return np.array(scaled.save_raw("ubj"))


def base_margins(booster: xgboost.Booster) -> NDArray[np.float32]:
    """What each class's margin is before any tree, (k,); of two classes the second's alone, (1,)."""
    base = _with_leaves(booster, lambda leaf, _: 0.0)
    nothing = xgboost.DMatrix(np.zeros((1, booster.num_features()), np.float32))
    return np.ravel(base.predict(nothing, output_margin=True))


def _with_leaves(booster: xgboost.Booster, leaf_of: Callable[[float, int], float]) -> xgboost.Booster:
    """The same trees, each leaf what `leaf_of` makes of it and of its tree's number; a round has one for each class."""
    model = json.loads(booster.save_raw("json"))
    for number, tree in enumerate(model["learner"]["gradient_booster"]["model"]["trees"]):
        pairs = zip(tree["left_children"], tree["split_conditions"], strict=True)
        tree["split_conditions"] = [leaf_of(value, number) if left == -1 else value for left, value in pairs]
    return xgboost.Booster(model_file=bytearray(json.dumps(model).encode()))


class _Columns:
    """What trees see of the wide columns that were put aside: the `chosen` ones, and the discriminants."""

    def __init__(self, chosen: NDArray[np.intp], discriminants: Discriminants | None, device: torch.device) -> None:
        self._chosen = torch.from_numpy(chosen).to(device)
        self._discriminants = discriminants
        self._device = device

    def of_training_rows(self, rows: slice, wide: torch.Tensor) -> torch.Tensor:
        """(n, c) float32 of rows that the discriminants were fitted on: each from those that have not seen it."""
        x = wide.to(self._device).float()
        if not self._discriminants:
            return x[:, self._chosen]
        folds = torch.from_numpy(fold_of(rows, FOLDS, self._discriminants.earlier)).to(self._device)
        unseen = x.new_empty(len(x), self._discriminants.weights.shape[1])
        for fold, weights in enumerate(self._discriminants.fold_weights):
            unseen[folds == fold] = x[folds == fold] @ weights
        return torch.hstack([x[:, self._chosen], unseen])

    def of_other_rows(self, _: slice, wide: torch.Tensor) -> torch.Tensor:
        """(n, c) float32 of rows that nothing was fitted on."""
        x = wide.to(self._device).float()
        if not self._discriminants:
            return x[:, self._chosen]
        return torch.hstack([x[:, self._chosen], x @ self._discriminants.weights.to(self._device)])


class _Batches(xgboost.DataIter):
    """Hands XGBoost the columns of stored rows, as often as it asks: no more than a batch is ever in memory.

    `columns` makes the (n, c) float32 that trees see, on the device of training, of which rows these are and their
    (n, d) float16. What is quantised is kept in files beginning with `cache`, where that is given.
    """

    def __init__(
        self, rows: StoredRows, columns: Callable[[slice, torch.Tensor], torch.Tensor], cache: str | None
    ) -> None:
        super().__init__(cache_prefix=cache, release_data=True)
        self._rows, self._columns = rows, columns
        self._interrupted: KeyboardInterrupt | None = None
        self.reset()

    def next(self, input_data: Callable[..., object]) -> bool:
        """Give the next rows; False where there are none left, or where a signal has come: XGBoost would swallow it."""
        try:
            for part, batch in self._batches:
                x = self._columns(part, batch)
                input_data(data=x if x.is_cuda else x.numpy(), label=self._rows.labels[part])
                return True
        except KeyboardInterrupt as error:
            self._interrupted = error
        return False

    def matrix(self, kind: type[xgboost.DMatrix], **how: Any) -> xgboost.DMatrix:
        """All rows, quantised; raises KeyboardInterrupt where a signal came in between."""
        try:
            return kind(self, **how)
        finally:
            if self._interrupted:
                raise self._interrupted

    def reset(self) -> None:
        """Begin again."""
        self._batches = self._rows.batches()


class _Learner:
    """Trees that learn from the first of two `matrices`, a round at a time, and say what they make of the second."""

    def __init__(
        self, told: JsonObject, matrices: Sequence[xgboost.DMatrix], discriminants: Discriminants | None
    ) -> None:
        self._matrices, self.discriminants = list(matrices), discriminants
        self.booster = xgboost.Booster(told, self._matrices)

    def learn(self, rounds: int) -> None:
        """Learn for so many rounds."""
        for number in range(rounds):
            self.booster.update(self._matrices[0], number)

    def go_on(self) -> Probabilities:
        """Learn for a round; what the trees then say of the unseen rows, (m, k)."""
        self.booster.update(self._matrices[0], self.booster.num_boosted_rounds())
        shares: Probabilities = self.booster.predict(self._matrices[1])
        return np.stack([1 - shares, shares], axis=1) if shares.ndim == 1 else shares

    def close(self) -> None:
        """Let go of what is on disk, before its folder goes."""
        self._matrices.clear()
        self.booster.reset()

    @property
    def device(self) -> str:
        """Where the trees have learnt."""
        told: str = json.loads(self.booster.save_config())["learner"]["generic_param"]["device"]
        return told


def _matrices(chosen: Chosen, columns: _Columns, max_bin: int, folder: Path | None) -> list[xgboost.DMatrix]:
    """What trees learn from, and what they are judged by if there is any, quantised alike; on disk in `folder`."""
    kind = xgboost.ExtMemQuantileDMatrix if folder else xgboost.QuantileDMatrix
    learn, judge = (str(folder / name) if folder else None for name in ("train", "validation"))
    matrix = _Batches(chosen.train, columns.of_training_rows, learn).matrix(kind, max_bin=max_bin)
    if not len(chosen.validation):
        return [matrix]
    judged = _Batches(chosen.validation, columns.of_other_rows, judge)
    return [matrix, judged.matrix(kind, max_bin=max_bin, ref=matrix)]
