"""A table's rows held in memory, so that they can be split anew: in folds, each of which is tested once."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from features.sources.source import SPLITS
from features.table.joined import JoinedTable
from features.table.table import BATCH_ROWS, Indexed, Rows, families

LEFT_OUT = ""
"""The split of rows that are in none."""

ALONE = -1
"""The fold of a row that is the only one of its class: whatever tested it would not know the class."""


class FoldedTable(Indexed, JoinedTable):
    """The rows of another table, as float16 in memory, each in the split that it is given. Use `of`.

    `keys` (n,) and `splits` (n,) are of all rows, training rows of that table first, then validation and test rows.

    >>> from features.table.table import FeatureTable
    >>> table = FoldedTable.of(JoinedTable([FeatureTable.open("table")]))
    >>> table.rows
    {'train': 33, 'validation': 4, 'test': 11}
    >>> folds = table.deal(3, ("train", "validation"), seed=0)
    >>> tested = table.with_splits(np.where(folds == 0, "test", np.where(folds > 0, "train", "")))
    >>> tested.rows
    {'train': 24, 'test': 13}
    """

    def __init__(self, table: JoinedTable, x: NDArray[np.float16], index: pd.DataFrame) -> None:
        super().__init__(table.tables)
        self._table, self._x = table, x
        self._index: pd.DataFrame = index
        self.keys, self.splits = index["key"].to_numpy(), index["split"].to_numpy()
        counts = index["split"].value_counts()
        self.rows = {split: int(counts[split]) for split in SPLITS if split in counts}

    @classmethod
    def of(cls, table: JoinedTable, splits: Sequence[str] = SPLITS) -> Self:
        """The rows of some `splits` of a table, read once, in the splits that they have there."""
        index = table.index()
        parts = [index[index["split"] == split] for split in splits]  # each in the order in which its rows are read
        x, end = np.empty((sum(map(len, parts)), table.dim), np.float16), 0
        for rows in (rows for split in splits if table.rows.get(split) for rows in table.batches(split)):
            start, end = end, end + len(rows)
            x[start:end] = rows.x
        return cls(table, x, pd.concat(parts, ignore_index=True))

    @property
    def dims(self) -> tuple[int, ...]:
        """Columns of each table."""
        return self._table.dims

    def with_splits(self, splits: NDArray[np.str_] | NDArray[np.object_]) -> Self:
        """The same rows in other `splits` (n,): of SPLITS, or LEFT_OUT."""
        return type(self)(self._table, self._x, self._index.assign(split=splits.astype(object)))

    @property
    def all_labels(self) -> NDArray[np.int32]:
        """The labels of all rows, (n,), whatever their split."""
        return self._index["label"].to_numpy(np.int32)

    def with_labels(self, labels: NDArray[np.int32]) -> Self:
        """The same rows with other `labels` (n,)."""
        return type(self)(self._table, self._x, self._index.assign(label=labels))

    def only(self, titles: Collection[str]) -> Self:
        """The columns of the nodes of these titles alone, in the order of the table."""
        wanted = np.repeat([trunk.title in titles for trunk in self.trunks], self.dims)
        return type(self)(self._table.only(titles), self._x[:, wanted], self._index)

    def deal(self, folds: int, among: Collection[str], seed: int) -> NDArray[np.intp]:
        """The fold, 0 to `folds` − 1, of each row whose split is `among` these, (n,); ALONE for all others.

        Images of the same bytes or of one group are in one fold (see `families`), and each class is spread as evenly as
        that allows. A class that all is in one fold is ALONE as well.
        """
        rows = self._index.reset_index()[np.isin(self.splits, list(among))]
        rows = rows.assign(family=families(rows))
        dealt = rows["family"].map(_dealt(rows, folds, seed))
        spread = dealt.groupby(rows["label"]).transform("nunique") > 1
        found = np.full(len(self.keys), ALONE, np.intp)
        found[rows["index"]] = dealt.where(spread, ALONE)
        return found

    def read(self, split: str) -> Rows:
        """All rows of a split."""
        return self._rows(np.flatnonzero(self.splits == split))

    def batches(self, split: str, size: int = BATCH_ROWS) -> Iterator[Rows]:
        """The rows of a split, at most `size` at a time."""
        chosen = np.flatnonzero(self.splits == split)
        for start in range(0, len(chosen), size):
            yield self._rows(chosen[start : start + size])

    def index(self) -> pd.DataFrame:
        """As `Indexed.index` says, of every row that is in a split."""
        index: pd.DataFrame = self._index[self.splits != LEFT_OUT]
        return index

    def _rows(self, numbers: NDArray[np.intp]) -> Rows:
        rows = self._index.iloc[numbers]
        x = self._x[numbers].astype(np.float32)
        return Rows(keys=rows["key"].to_numpy(), x=x, y=rows["label"].to_numpy(np.int32))


def _dealt(rows: pd.DataFrame, folds: int, seed: int) -> dict[int, int]:
    """The fold of each family of `rows` (family, label): the one that has fewest images like its own, then fewest.

    The largest of a class are dealt first, else in an order that `seed` decides.
    """
    by_family = rows.groupby("family", sort=False)["label"]
    order = by_family.agg(["first", "size"]).sample(frac=1, random_state=seed)
    order = order.sort_values(["first", "size"], ascending=[True, False], kind="stable")
    labels = {family: np.unique(of, return_counts=True) for family, of in by_family}
    held = np.zeros((folds, rows["label"].max() + 1), np.int64)
    dealt = {}
    for family in order.index:
        classes, counts = labels[family]
        fold = np.lexsort((held.sum(axis=1), held[:, classes] @ counts))[0]
        held[fold, classes] += counts
        dealt[family] = int(fold)
    return dealt
