"""Rows of a table put aside on disk for the length of some fits: taken from the table once, read as often as needed."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from typing import IO, Self, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.feature_selection import SelectKBest

from features.errors import OutputError
from features.sources.source import LearningSplit
from features.table.joined import JoinedTable
from models.columns.selection import rank_by_anova, select_best

BATCH_ROWS = 4096


class StoredRows:
    """Some columns of a split's rows as float16, as the table holds them, in `file`; and their `labels` (n,) int32."""

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
        return torch.from_numpy(self._mapped[numbers])

    @cached_property
    def _mapped(self) -> NDArray[np.float16]:
        return np.memmap(self._file, np.float16, mode="r", shape=(len(self), self.dim))

    def read(self) -> torch.Tensor:
        """All rows, (n, dim) float16."""
        whole = torch.empty(len(self), self.dim, dtype=torch.float16)
        for part, x in self.batches():
            whole[part] = x
        return whole


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """A table's best columns, put aside in a workspace.

    `select` takes them from whole rows; `places` (d,) ranks all columns of the table, see `rank_by_anova`; `train` and
    `validation` hold the columns' values; `seconds` is what it took.
    """

    select: SelectKBest
    places: NDArray[np.intp]
    train: StoredRows
    validation: StoredRows
    seconds: float


class Workspace:
    """Where fits put rows aside, until the `with` block of it ends.

    Its files have no name, so that a process that is killed leaves nothing behind. They lie in the folder for temporary
    files, which TMPDIR names.
    """

    def __init__(self) -> None:
        self._files, self._files_of_choice = ExitStack(), ExitStack()
        self._asked: tuple[JoinedTable, int] | None = None
        self._chosen: Chosen | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._forget()
        self._files.close()

    def store(self, table: JoinedTable, split: LearningSplit, columns: NDArray[np.intp]) -> StoredRows:
        """Put `columns` of a split's rows aside."""
        return _stored(table, split, columns, self._files)

    def choose(self, table: JoinedTable, columns: int) -> Chosen:
        """Put the best `columns` of a table aside, or find them there if they are what was chosen last.

        Another choice takes the place of the one before, whose files are closed.
        """
        if self._chosen is None or self._asked != (table, columns):
            self._forget()
            self._chosen = _choose(table, columns, self._files_of_choice)
            self._asked = table, columns
        return self._chosen

    def _forget(self) -> None:
        self._asked = self._chosen = None
        self._files_of_choice.close()


def _choose(table: JoinedTable, columns: int, files: ExitStack) -> Chosen:
    start = time.perf_counter()
    places = rank_by_anova(table)
    select = select_best(places, columns)
    support = select.get_support(indices=True)
    train, validation = (_stored(table, split, support, files) for split in get_args(LearningSplit))
    seconds = time.perf_counter() - start
    return Chosen(select=select, places=places, train=train, validation=validation, seconds=seconds)


def _stored(table: JoinedTable, split: LearningSplit, columns: NDArray[np.intp], files: ExitStack) -> StoredRows:
    try:
        file = files.enter_context(tempfile.TemporaryFile())  # noqa: SIM115 (closed with `files`)
        for rows in table.batches(split):
            file.write(rows.x[:, columns].astype(np.float16).tobytes())
        file.flush()
    except OSError as error:
        where = tempfile.tempdir or "any folder for temporary files"
        raise OutputError(
            f"cannot put rows aside in {where} ({error.strerror}): free some space there, or name another folder in "
            "the environment variable TMPDIR"
        ) from error
    return StoredRows(file, table.labels(split), len(columns))
