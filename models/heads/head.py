"""What a classifier is, and a head: trained on training rows, steered by validation rows, blind to test rows."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Self

import joblib
import numpy as np
import safetensors.numpy
import torch
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.ensemble import VotingClassifier
from sklearn.feature_selection import SelectKBest
from sklearn.pipeline import Pipeline

from features.errors import first_line
from features.table.joined import JoinedTable
from models.calibration import fit_sharpness, sharpened
from models.columns.selection import select_best
from models.columns.workspace import Lessons, Workspace, check_learnable
from models.errors import ClassifierError
from models.fitted import Arrays, array_of
from models.heads.settings import ColumnsSettings, Settings
from models.skops_file import skops_of
from models.together import everyones
from models.unseen import Unseen


@dataclass(frozen=True)
class Step:
    """A step of training: `note` says how it goes, `loss` is the head's validation log-loss by now.

    `loss` is None after a step that was of a part of the head alone.
    """

    note: str
    loss: float | None


OnStep = Callable[[Step], None]
"""Called after each step of training."""

Probabilities = NDArray[np.float32]
"""(n, k) float32, rows sum to 1, columns in the order of a head's `classes_`."""

JsonObject = dict[str, Any]
"""What JSON can hold, by name, as it stands on the card."""

Model = Pipeline | VotingClassifier
"""What a head learns: a classifier of scikit-learn's and xgboost's objects, its classes numbered from 0."""

DATA = ".safetensors"
"""The suffix of the file that holds what was learnt as plain arrays, of which a classifier is made again."""

UNSEEN = ".parquet"
"""The suffix of the file with what a head said of rows that it had not seen."""

SKOPS = ".skops"
"""The suffix of the file that holds the model as skops writes it."""

PREDICT_ROWS = 4096
"""Rows that are predicted at a time, so that the steps between features and probabilities need little memory."""


class Classifier(ABC):
    """Class probabilities of features, as `card` saves and restores them.

    Once learnt: `classes_` names the columns of `predict_proba`, `fit_seconds_` is the time it took, `device_` where
    that was, `learned_` what validation chose.
    """

    name: str
    format: ClassVar[int]
    """Raised when the meaning of the files changes."""
    suffixes: ClassVar[tuple[str, ...]]
    """The files that `save` writes, by suffix: first what people take away, among them DATA."""

    def __init__(self, *, seed: int, device: torch.device) -> None:
        self.seed = seed
        self.device = device
        self.classes_: tuple[str, ...] = ()
        self.fit_seconds_ = 0.0
        self.device_ = str(device)
        self.learned_: JsonObject = {}

    @abstractmethod
    def parameters(self) -> JsonObject:
        """The settings and the seed: with the data, all that decides what is learnt."""

    @abstractmethod
    def predict_proba(self, x: NDArray[np.float32]) -> Probabilities:
        """Class probabilities of (n, d) float32 features, on the CPU."""

    @abstractmethod
    def save(self, path: Path, suffix: str) -> None:
        """Write the file of `suffix` to `path`, which need not end in it."""

    @abstractmethod
    def restore(self, path: Path) -> None:
        """Take back what `save` wrote as DATA; raises ValueError for a file that holds anything else."""


class Head(Classifier):
    """A classifier that learns from a feature table, reading it counted in its seconds.

    Subclasses hold their settings in a frozen dataclass. `parts` are the heads that it is made of; most have none.
    `learned_` has `validation_log_loss` among the rest: a search for settings goes by it. What it learns are `arrays_`,
    and `model_` is made of them, by `build` alone: after training, after reading, and for the joblib. `unseen_` is
    what it said of rows that it had not seen when they were judged.
    """

    format = 5
    suffixes: ClassVar[tuple[str, ...]] = (".joblib", DATA, UNSEEN, SKOPS)
    on_gpu: ClassVar[bool] = True
    """Whether it can learn on a GPU."""
    shared: ClassVar[bool] = False
    """Whether several processes can learn it, each from a part of the table."""
    arrays_: Arrays
    model_: Model
    unseen_: Unseen

    def __init__(self, settings: Settings, *, seed: int, device: torch.device, parts: Sequence[Head] = ()) -> None:
        super().__init__(seed=seed, device=device if self.on_gpu else torch.device("cpu"))
        self.name = settings.head
        self.settings = settings
        self.parts = tuple(parts)
        self._learnt: tuple[Head, ...] = ()

    def with_settings(self, settings: Mapping[str, Settings]) -> Self:
        """The same head yet to be fitted, in which those of it and its parts that are named have other settings."""
        parts = [part.with_settings(settings) for part in self.parts]
        own = settings.get(self.name, self.settings)
        return type(self)(own, seed=self.seed, device=self.device, parts=parts)

    def suited(self, classes: int) -> Self:
        """The same head yet to be fitted, with the settings for so many classes, its parts likewise."""
        parts = [part.suited(classes) for part in self.parts]
        return type(self)(self.settings.suited(classes), seed=self.seed, device=self.device, parts=parts)

    def take(self, learnt: Sequence[Head]) -> None:
        """Use these, which have learnt from the same table, instead of letting `parts` learn."""
        self._learnt = tuple(learnt)

    def parameters(self) -> JsonObject:
        return {**asdict(self.settings), "seed": self.seed}

    @abstractmethod
    def steps(self) -> int:
        """How many steps training takes at most."""

    @abstractmethod
    def fit(self, table: JoinedTable, workspace: Workspace, on_step: OnStep) -> Self:
        """Train on `table`, rows of it put aside in `workspace`; raises DataError where they do not allow it."""

    @abstractmethod
    def build(self, arrays: Arrays) -> Model:
        """The model that `arrays` hold; raises ValueError for some that hold none."""

    def unfitted(self, model: Any) -> Any:
        """A model that `build` has made as scikit-learn had it before fitting."""
        return clone(model)

    def sharper(self, arrays: Arrays, sharpness: float) -> Arrays | None:
        """What was learnt, its logits times `sharpness`; None of a head that has none, or has chosen their scale."""
        return None

    def settle(self, arrays: Arrays, unseen: Unseen) -> None:
        """Take what was learnt, and what it says of rows that it has not seen, by which it is calibrated."""
        sharpness = fit_sharpness(unseen.probabilities, unseen.labels)
        sharper = None if sharpness == 1 else self.sharper(arrays, sharpness)
        if sharper is not None:
            unseen = replace(unseen, probabilities=sharpened(unseen.probabilities, sharpness))
            self.learned_ |= {"sharpness": sharpness}
        self.unseen_ = unseen
        self.learn(sharper or arrays)

    def learn(self, arrays: Arrays) -> None:
        """Take what was learnt; raises ValueError where that is no model."""
        self.arrays_ = {name: np.asarray(array, order="C") for name, array in arrays.items()}
        self.model_ = self.build(self.arrays_)

    def predict_proba(self, x: NDArray[np.float32]) -> Probabilities:
        """See Classifier; raises ClassifierError for features of another width than it learnt from."""
        if x.ndim != 2 or x.shape[1] != self.model_.n_features_in_:
            raise ClassifierError(
                f"features of shape {x.shape} came, expected (n, {self.model_.n_features_in_}): "
                "take those of the network that the card names"
            )
        parts = [self.model_.predict_proba(x[start : start + PREDICT_ROWS]) for start in range(0, len(x), PREDICT_ROWS)]
        return np.concatenate(parts).astype(np.float32)

    def save(self, path: Path, suffix: str) -> None:
        """Write the arrays, what was said, or the model: made anew, as files differ with what its objects share."""
        if suffix == DATA:
            path.write_bytes(safetensors.numpy.save(dict(self.arrays_)))
        elif suffix == UNSEEN:
            self.unseen_.write(path)
        elif suffix == SKOPS:
            path.write_bytes(skops_of(self.build(self.arrays_)))
        else:
            joblib.dump(self.build(self.arrays_), path, compress=3)

    def restore(self, path: Path) -> None:
        """See Classifier; `classes_` must be as many as the file's."""
        try:
            arrays = safetensors.numpy.load(path.read_bytes())
        except (safetensors.SafetensorError, KeyError) as error:  # KeyError: of a type that NumPy does not know
            raise ValueError(f"no arrays: {first_line(error)}") from error
        if not all(np.isfinite(array).all() for array in arrays.values() if array.ndim):
            raise ValueError("some of its arrays hold what is no number")
        self.learn(arrays)
        if len(self.model_.classes_) != len(self.classes_):
            raise ValueError(f"{len(self.model_.classes_)} classes, expected {len(self.classes_)}")


@dataclass(frozen=True, kw_only=True)
class Learnt:
    """What a head has learnt of a table, and said of `unseen` rows, yet to be calibrated by them.

    `learned` is what validation chose, `device` where it learnt, in so many `seconds`.
    """

    arrays: Arrays
    unseen: Unseen
    learned: JsonObject
    device: str
    seconds: float


class ColumnsHead(Head):
    """A head that learns from the best columns of a table; saved as a scikit-learn Pipeline that chooses them first."""

    settings: ColumnsSettings
    model_: Pipeline

    @property
    def columns(self) -> int:
        """How many columns it learns from at most."""
        return self.settings.columns

    def fit(self, table: JoinedTable, workspace: Workspace, on_step: OnStep) -> Self:
        """See Head. What choosing the columns took counts for each head, also where another has had it done before."""
        check_learnable(table)
        return self.finish(self.study(table, workspace, on_step), table.classes)

    def study(self, table: JoinedTable, workspace: Workspace, on_step: OnStep) -> Learnt:
        """Learn from a table, or from a part of it while other processes learn from the others (see `together`)."""
        lessons = workspace.lessons(table, self.columns, self.seed)
        start = time.perf_counter()
        arrays, probabilities = self._fit(lessons, len(table.classes), on_step)
        keys, labels, said = map(everyones, (lessons.keys, lessons.labels, probabilities))
        return Learnt(
            arrays=arrays,
            unseen=Unseen(keys=keys, labels=labels, probabilities=said),
            learned=self.learned_,
            device=self.device_,
            seconds=lessons.seconds + time.perf_counter() - start,
        )

    def finish(self, learnt: Learnt, classes: tuple[str, ...]) -> Self:
        """Take what `study` has learnt, calibrated."""
        start = time.perf_counter()
        self.learned_, self.device_, self.classes_ = dict(learnt.learned), learnt.device, classes
        self.settle(learnt.arrays, learnt.unseen)
        self.fit_seconds_ = learnt.seconds + time.perf_counter() - start
        return self

    @abstractmethod
    def _fit(self, lessons: Lessons, classes: int, on_step: OnStep) -> tuple[Arrays, Probabilities]:
        """What is learnt, and what was said, (m, k), of the rows that choices are made on."""


def chosen_columns(arrays: Arrays, columns: int) -> SelectKBest:
    """What takes the best `columns` of a table by their `places`, see `rank_by_anova`; raises ValueError for fewer."""
    places = array_of(arrays, "places", np.int64, None)
    if not 0 < columns <= len(places):
        raise ValueError(f"`places` has {len(places)} columns, expected {columns} or more")
    return select_best(places, columns)
