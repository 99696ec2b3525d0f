"""What a classifier is, and a head: trained on training rows, steered by validation rows, blind to test rows."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import joblib
import numpy as np
import torch
from numpy.typing import NDArray

from features.table.joined import JoinedTable
from models.columns.learnable import check_learnable
from models.columns.selection import Chosen, choose


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


PREDICT_ROWS = 4096
"""At a time, so that the steps between features and probabilities need little memory."""


class Classifier(ABC):
    """Class probabilities of features, as `persist` saves and restores them.

    Once learnt: `classes_` names the columns of `predict_proba`, `fit_seconds_` is the time it took, `device_` where
    that was, `learned_` what validation chose. `tuning` is what the search for its settings cost, empty where there was
    none.
    """

    name: ClassVar[str]
    suffixes: ClassVar[tuple[str, ...]] = (".joblib",)
    """The files that `save` writes, by suffix; prediction reads the first."""

    def __init__(self, *, seed: int, device: torch.device) -> None:
        self.seed = seed
        self.device = device
        self.classes_: tuple[str, ...] = ()
        self.fit_seconds_ = 0.0
        self.device_ = str(device)
        self.learned_: dict[str, Any] = {}
        self.tuning: dict[str, Any] = {}

    @abstractmethod
    def parameters(self) -> dict[str, Any]:
        """The settings and the seed: with the data, all that decides what is learnt."""

    @abstractmethod
    def predict_proba(self, x: NDArray[np.float32]) -> Probabilities:
        """Class probabilities of (n, d) float32 features, on the CPU."""

    @abstractmethod
    def save(self, path: Path, suffix: str) -> None:
        """Write the file of `suffix` to `path`, which need not end in it."""

    @abstractmethod
    def restore(self, path: Path) -> None:
        """Take back what `save` wrote under the first suffix."""


class Head(Classifier):
    """A classifier that learns from a feature table, reading it counted in its seconds.

    Subclasses hold their settings in a frozen dataclass, and fit one table at a time.
    """

    on_gpu: ClassVar[bool]
    """Whether it can learn on a GPU."""
    model_: Any
    """What was learnt: a classifier of scikit-learn's and xgboost's objects, its classes numbered from 0."""

    def __init__(self, settings: Any, *, seed: int, device: torch.device) -> None:
        super().__init__(seed=seed, device=device if self.on_gpu else torch.device("cpu"))
        self.settings = settings

    def fit(self, table: JoinedTable, on_step: OnStep) -> Self:
        """Train on `table`; raises DataError where its rows do not allow it."""
        check_learnable(table)
        self.fit_seconds_ = 0.0
        start = time.perf_counter()
        self._fit(table, on_step)
        self.fit_seconds_ += time.perf_counter() - start
        self.classes_ = table.classes
        return self

    def parameters(self) -> dict[str, Any]:
        """See Classifier."""
        return {**asdict(self.settings), "seed": self.seed}

    @abstractmethod
    def steps(self, table: JoinedTable) -> int:
        """How many steps training on `table` takes at most."""

    def _choose(self, table: JoinedTable, columns: int) -> Chosen:
        """The best columns of the table; what it took counts, also where another head has put them aside before."""
        start = time.perf_counter()
        chosen = choose(table, columns)
        self.fit_seconds_ += chosen.seconds - (time.perf_counter() - start)
        return chosen

    @abstractmethod
    def _fit(self, table: JoinedTable, on_step: OnStep) -> None: ...

    def predict_proba(self, x: NDArray[np.float32]) -> Probabilities:
        """See Classifier."""
        parts = [self.model_.predict_proba(x[start : start + PREDICT_ROWS]) for start in range(0, len(x), PREDICT_ROWS)]
        return np.concatenate(parts).astype(np.float32)

    def save(self, path: Path, suffix: str) -> None:
        """See Classifier."""
        joblib.dump(self.model_, path, compress=3)

    def restore(self, path: Path) -> None:
        """See Classifier."""
        self.model_ = joblib.load(path)
