"""What heads learn from: a table's training and validation rows, whole or batch by batch, never its test rows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from features.errors import some
from features.joined import JoinedTable
from features.table import LEDGER
from models.errors import DataError

LearningSplit = Literal["train", "validation"]

Labelled = tuple[NDArray[np.float32], NDArray[np.int32]]
"""Features (n, d) float32 and labels (n,) int32."""


@dataclass(frozen=True, kw_only=True)
class TrainingData:
    """The rows of `table` that a head may see; every class has training rows."""

    table: JoinedTable

    @classmethod
    def of(cls, table: JoinedTable) -> TrainingData:
        """Look at the labels of `table`; raises DataError for one class, a class without training rows, no validation.

        Raises TableError for a table that is not as its manifest says.
        """
        index = table.index()
        trained = set(index.loc[index["split"] == "train", "label"])
        absent = [name for label, name in enumerate(table.classes) if label not in trained]
        if len(table.classes) < 2:
            raise DataError(f"{table.folder} has one class only ({some(table.classes)}): two or more are needed")
        if absent:
            raise DataError(
                f"{table.folder} has no training row of {len(absent)} of its {len(table.classes)} classes "
                f"({some(absent)}): expected one of each at least, see {LEDGER} there for images that could not be "
                "read, add images or remove these classes"
            )
        if not (index["split"] == "validation").any():
            raise DataError(f"{table.folder} has no validation rows: add images to validation")
        return cls(table=table)

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes, in the order of their numbers."""
        return self.table.classes

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
        return self.table.labels(split)

    def batches(self, split: LearningSplit) -> Iterator[Labelled]:
        """All rows, a few hundred at a time, in the order of `labels`."""
        for rows in self.table.batches(split):
            yield rows.x, rows.y

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
        return {name: TrainingData(table=table) for name, table in self.table.by_node().items()}
