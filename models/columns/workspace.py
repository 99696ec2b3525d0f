"""What heads learn from: rows of a table, put aside on disk for the length of some fits.

They are taken from the table once, and read as often as needed.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from typing import IO, Self, get_args

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from sklearn.feature_selection import SelectKBest

from features.errors import OutputError, some
from features.sources.source import LearningSplit
from features.table.folded import ALONE, LEFT_OUT, FoldedTable
from features.table.joined import JoinedTable
from features.table.ledger import LEDGER
from models.columns.selection import rank_by_anova, select_best
from models.errors import DataError
from models.together import count

BATCH_ROWS = 4096

FEW_ROWS = 1000
"""Of fewer training and validation rows all serve for choices, each once: a tenth of them would leave it to luck."""

FOLDS = 5
"""So many tries are made of few rows."""


def check_learnable(table: JoinedTable) -> None:
    """Look at the labels; raises DataError for one class, a class without training rows, or no validation rows.

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


class StoredRows:
    """Rows of `dim` columns as float16 in `file`, and their `labels` (n,) int32.

    However many there are, they need no memory: of the file the system keeps what there is room for.
    """

    def __init__(self, file: IO[bytes], labels: NDArray[np.int32], dim: int) -> None:
        self._file = file
        self.labels = labels
        self.dim = dim

    def __len__(self) -> int:
        return len(self.labels)

    def batches(self, rows: int = BATCH_ROWS) -> Iterator[tuple[slice, torch.Tensor]]:
        """Which rows these are, and their (n, dim) float16, at most `rows` at a time."""
        self._file.seek(0)
        for start in range(0, len(self), rows):
            part = slice(start, min(start + rows, len(self)))
            content = bytearray(self._file.read((part.stop - start) * self.dim * 2))
            yield part, torch.frombuffer(content, dtype=torch.float16).view(-1, self.dim)

    def rows(self, numbers: NDArray[np.intp]) -> torch.Tensor:
        """Some rows, (m, dim) float16."""
        return self._mapped[torch.from_numpy(numbers)]

    def read(self) -> torch.Tensor:
        """All rows, (n, dim) float16, not to be written to: the system reads from the file what is looked at."""
        return self._mapped

    @cached_property
    def _mapped(self) -> torch.Tensor:
        if not len(self):  # no system maps nothing
            return torch.empty(0, self.dim, dtype=torch.float16)
        return torch.from_numpy(np.memmap(self._file, np.float16, mode="c", shape=(len(self), self.dim)))


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """A table's best columns, put aside in a workspace.

    `select` takes them from whole rows; `places` (d,) ranks all columns of the table, see `rank_by_anova`; `train` and
    `validation` hold the columns' values.
    """

    select: SelectKBest
    places: NDArray[np.intp]
    train: StoredRows
    validation: StoredRows


@dataclass(frozen=True, kw_only=True)
class Lessons:
    """What a head learns from: rows to learn from and others to choose its settings by, in each of `tries`.

    Of many rows there is one try, whose choice is made on validation rows, and what has learnt there is the head. Of
    fewer than FEW_ROWS training and validation rows there are FOLDS, which leave out each row once; the choice is made
    on all of these, and the head then learns from the `whole`, which has no rows to choose by. `keys` (m,) and `labels`
    (m,) are of the rows that the choice is made on, those of one try after those of another; `seconds` is what it took
    to put all this aside.
    """

    tries: tuple[Chosen, ...]
    whole: Chosen | None
    keys: NDArray[np.object_]
    labels: NDArray[np.int32]
    seconds: float

    @property
    def last(self) -> Chosen:
        """What the head has learnt from at last."""
        return self.whole or self.tries[0]


class Workspace:
    """Where fits put rows aside, until the `with` block of it ends.

    Its files have no name, so that a process that is killed leaves nothing behind. They lie in the folder for temporary
    files, which TMPDIR names.
    """

    def __init__(self) -> None:
        self._files, self._files_of_lessons = ExitStack(), ExitStack()
        self._asked: tuple[JoinedTable, int, int] | None = None
        self._lessons: Lessons | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._forget()
        self._files.close()

    def store(self, table: JoinedTable, split: LearningSplit, columns: NDArray[np.intp]) -> StoredRows:
        """Put `columns` of a split's rows aside."""
        return _stored(table, split, columns, self._files)

    def lessons(self, table: JoinedTable, columns: int, seed: int) -> Lessons:
        """Put the best `columns` of a table aside, or find them there if they are what was asked for last.

        `seed` deals the folds of few rows. Other lessons take the place of those before, whose files are closed.
        """
        if self._lessons is None or self._asked != (table, columns, seed):
            self._forget()
            self._lessons = _lessons(table, columns, seed, self._files_of_lessons)
            self._asked = table, columns, seed
        return self._lessons

    def _forget(self) -> None:
        self._asked = self._lessons = None
        self._files_of_lessons.close()


def _lessons(table: JoinedTable, columns: int, seed: int, files: ExitStack) -> Lessons:
    start = time.perf_counter()
    views, whole = _views(table, seed)
    unseen = pd.concat([index[index["split"] == "validation"] for index in (view.index() for view in views)])
    return Lessons(
        tries=tuple(_choose(view, columns, files) for view in views),
        whole=_choose(whole, columns, files) if whole else None,
        keys=unseen["key"].to_numpy(),
        labels=unseen["label"].to_numpy(np.int32),
        seconds=time.perf_counter() - start,
    )


def learnt_from(rows: Mapping[str, int]) -> int:
    """How many of the `rows` of each split a head has learnt from at last: of many, validation rows only steer."""
    return both if (both := rows_of_both(rows)) < FEW_ROWS else rows["train"]


def rows_of_both(rows: Mapping[str, int]) -> int:
    """How many of the `rows` of each split are to be learnt from and to choose by."""
    return sum(rows.get(split, 0) for split in get_args(LearningSplit))


def _views(table: JoinedTable, seed: int) -> tuple[Sequence[JoinedTable], JoinedTable | None]:
    """The table for each try, and for what is learnt at last where that is another."""
    if count(rows_of_both(table.rows)) >= FEW_ROWS:
        return [table], None
    held = table if isinstance(table, FoldedTable) else FoldedTable.of(table, get_args(LearningSplit))
    folds = held.deal(FOLDS, get_args(LearningSplit), seed)
    if (folds == ALONE).all():  # no class has images enough, or all its images are the same
        return [table], None
    learnt = np.isin(held.splits, get_args(LearningSplit))
    train = np.where(learnt, "train", LEFT_OUT)
    tries = [
        held.with_splits(np.where(folds == fold, "validation", train)) for fold in np.unique(folds[folds != ALONE])
    ]
    return tries, held.with_splits(train)


def _choose(table: JoinedTable, columns: int, files: ExitStack) -> Chosen:
    places = rank_by_anova(table)
    select = select_best(places, columns)
    support = select.get_support(indices=True)
    train, validation = (_stored(table, split, support, files) for split in get_args(LearningSplit))
    return Chosen(select=select, places=places, train=train, validation=validation)


def _stored(table: JoinedTable, split: LearningSplit, columns: NDArray[np.intp], files: ExitStack) -> StoredRows:
    labels = [np.empty(0, np.int32)]

    def parts() -> Iterator[NDArray[np.float16]]:
        for rows in table.batches(split):
            labels.append(rows.y)
            yield rows.x[:, columns].astype(np.float16)

    file = put_aside(parts(), files)
    return StoredRows(file, np.concatenate(labels), len(columns))


def put_aside(parts: Iterable[NDArray[np.float16]], files: ExitStack) -> IO[bytes]:
    """A file that holds `parts`, one after another, until `files` are closed; raises OutputError where that fails."""
    try:
        file = files.enter_context(tempfile.TemporaryFile())  # noqa: SIM115 (closed with `files`)
        for part in parts:
            file.write(part.tobytes())
        file.flush()
    except OSError as error:
        where = tempfile.tempdir or "any folder for temporary files"
        raise OutputError(
            f"cannot put rows aside in {where} ({error.strerror}): free some space there, or name another folder in "
            "the environment variable TMPDIR"
        ) from error
    return file
