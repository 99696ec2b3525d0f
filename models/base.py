"""What a head is: trained on a table's training rows, steered by its validation rows, blind to its test rows."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray

from features.joined import JoinedTable
from features.table import Rows
from models.errors import DataError

OnStep = Callable[[str], None]
"""Called after each step of training with a few words on how it goes."""

Probabilities = NDArray[np.float32]
"""(n, k) float32, rows sum to 1, columns in the order of a head's `classes_`."""


@dataclass(frozen=True, kw_only=True)
class TrainingData:
    """Training and validation rows, labels numbered 0 … k−1 over the k classes that training has.

    `x`, `x_validation`: (n, d) float32; `y`, `y_validation`: (n,) int32; `classes`: their names, k of them.
    """

    x: NDArray[np.float32]
    y: NDArray[np.int32]
    x_validation: NDArray[np.float32]
    y_validation: NDArray[np.int32]
    classes: tuple[str, ...]

    @classmethod
    def of(cls, table: JoinedTable) -> Self:
        """Read the rows of `table`; raises DataError for one class, no validation rows, or values that are not finite.

        Validation rows of a class that training lacks are left out: nothing could be learnt of them.
        """
        train, validation = table.read("train"), table.read("validation")
        present = np.unique(train.y)
        if len(present) < 2:
            raise DataError(f"{table.folder} has {len(present)} classes in its training rows: two or more are needed")
        known = np.isin(validation.y, present)
        if not known.any():
            raise DataError(f"{table.folder} has no validation rows of its training classes: add images to validation")
        _refuse_not_finite(table, train, validation)
        return cls(
            x=train.x,
            y=np.searchsorted(present, train.y).astype(np.int32),
            x_validation=validation.x[known],
            y_validation=np.searchsorted(present, validation.y[known]).astype(np.int32),
            classes=tuple(table.classes[label] for label in present),
        )


class Head(ABC):
    """A classifier on features. Subclasses hold their settings in a frozen dataclass, and fit one table at a time.

    After `fit`: `classes_` names the columns of `predict_proba`, `fit_seconds_` is the time spent learning (reading
    the table not counted), `device_` where that was, `learned_` what validation chose.
    """

    name: ClassVar[str]
    on_gpu: ClassVar[bool]
    """Whether it can learn on a GPU."""
    suffixes: ClassVar[tuple[str, ...]]
    """The files that `save` writes, by suffix; prediction reads the first."""

    def __init__(self, settings: Any, *, seed: int, device: torch.device) -> None:
        self.settings = settings
        self.seed = seed
        self.device = device if self.on_gpu else torch.device("cpu")
        self.classes_: tuple[str, ...] = ()
        self.fit_seconds_ = 0.0
        self.device_ = str(self.device)
        self.learned_: dict[str, Any] = {}

    def fit(self, table: JoinedTable, on_step: OnStep) -> Self:
        """Train on `table`; raises DataError where its rows do not allow it."""
        data = TrainingData.of(table)
        start = time.perf_counter()
        self._fit(data, on_step)
        self.fit_seconds_ = time.perf_counter() - start
        self.classes_ = data.classes
        return self

    def parameters(self) -> dict[str, Any]:
        """The settings and the seed: with the table, all that decides what is learnt."""
        return {**asdict(self.settings), "seed": self.seed}

    @property
    @abstractmethod
    def steps(self) -> int:
        """How many steps training takes at most."""

    @abstractmethod
    def _fit(self, data: TrainingData, on_step: OnStep) -> None: ...

    @abstractmethod
    def predict_proba(self, x: NDArray[np.float32]) -> Probabilities:
        """Class probabilities of (n, d) float32 features."""

    @abstractmethod
    def save(self, path: Path, suffix: str) -> None:
        """Write the file of `suffix` to `path`, which need not end in it."""

    @abstractmethod
    def restore(self, path: Path) -> None:
        """Take back what `save` wrote under the first suffix."""


def _refuse_not_finite(table: JoinedTable, *parts: Rows) -> None:
    for rows in parts:
        finite = np.isfinite(rows.x.sum(axis=1, dtype=np.float64))
        if not finite.all():
            raise DataError(
                f"{table.folder} has features that are infinite or not a number in {np.sum(~finite)} rows "
                f"(first: {rows.keys[np.argmin(finite)]}): extract it again"
            )
