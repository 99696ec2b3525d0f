"""What heads learn from: a table's training and validation rows, whole or batch by batch, never its test rows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from features.joined import JoinedTable
from features.table import Rows
from models.errors import DataError

LearningSplit = Literal["train", "validation"]

Labelled = tuple[NDArray[np.float32], NDArray[np.int32]]
"""Features (n, d) float32 and labels (n,) int32."""


@dataclass(frozen=True, kw_only=True)
class TrainingData:
    """The rows of `table` that a head may see, labels numbered 0 … k−1 over the k `classes` that training has.

    Validation rows of a class that training lacks are left out: nothing could be learnt of them.
    """

    table: JoinedTable
    present: NDArray[np.int32]

    @classmethod
    def of(cls, table: JoinedTable) -> TrainingData:
        """Look at the labels of `table`; raises DataError for one class, or no validation rows of any."""
        present = np.unique(table.labels("train"))
        if len(present) < 2:
            raise DataError(f"{table.folder} has {len(present)} classes in its training rows: two or more are needed")
        if not np.isin(table.labels("validation"), present).any():
            raise DataError(f"{table.folder} has no validation rows of its training classes: add images to validation")
        return cls(table=table, present=present)

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes, in the order of their numbers."""
        return tuple(self.table.classes[label] for label in self.present)

    @property
    def dims(self) -> tuple[int, ...]:
        """Columns of each node."""
        return self.table.dims

    @property
    def dim(self) -> int:
        """Columns of a row."""
        return self.table.dim

    def labels(self, split: LearningSplit) -> NDArray[np.int32]:
        """The numbers of the classes of all rows, (n,)."""
        labels = self.table.labels(split)
        return self._numbered(labels[np.isin(labels, self.present)])

    def read(self, split: LearningSplit) -> Labelled:
        """All rows; raises DataError for values that are not finite."""
        return self._labelled(self.table.read(split))

    def batches(self, split: LearningSplit) -> Iterator[Labelled]:
        """The same a few hundred at a time, in the same order."""
        for rows in self.table.batches(split):
            yield self._labelled(rows)

    def read_half(self, split: LearningSplit) -> tuple[NDArray[np.float16], NDArray[np.int32]]:
        """All rows as the table holds them, in half the memory."""
        y = self.labels(split)
        x = np.empty((len(y), self.dim), np.float16)
        start = 0
        for part, _ in self.batches(split):
            x[start : start + len(part)] = part
            start += len(part)
        return x, y

    def by_node(self) -> dict[str, TrainingData]:
        """The rows of each node alone, all in the same order."""
        return {name: TrainingData(table=table, present=self.present) for name, table in self.table.by_node().items()}

    def _labelled(self, rows: Rows) -> Labelled:
        finite = np.isfinite(rows.x.sum(axis=1, dtype=np.float64))
        if not finite.all():
            raise DataError(
                f"{self.table.folder} has features that are infinite or not a number "
                f"(first: {rows.keys[np.argmin(finite)]}): extract it again"
            )
        known = np.isin(rows.y, self.present)
        x = rows.x if known.all() else rows.x[known]
        return x, self._numbered(rows.y[known])

    def _numbered(self, known: NDArray[np.int32]) -> NDArray[np.int32]:
        """The numbers of labels that training has."""
        return np.searchsorted(self.present, known).astype(np.int32)
