"""A table's chosen columns on disk for the length of a fit: taken from the table once, read as often as a fit needs."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray

from features.sources.source import LearningSplit
from features.table.joined import JoinedTable

BATCH_ROWS = 4096


class Scratch:
    """`columns` of one split's rows as float16, as the table holds them, in a file without a name; `labels` (n,)."""

    def __init__(self, table: JoinedTable, split: LearningSplit, columns: NDArray[np.intp]) -> None:
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 - it lives as long as this does, and goes with it
        self.labels: NDArray[np.int32] = table.labels(split)
        self.dim = len(columns)
        for rows in table.batches(split):
            self._file.write(rows.x[:, columns].astype(np.float16).tobytes())

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
        self._file.flush()
        return np.memmap(self._file, np.float16, mode="r", shape=(len(self), self.dim))

    def read(self) -> torch.Tensor:
        """All rows, (n, dim) float16."""
        whole = torch.empty(len(self), self.dim, dtype=torch.float16)
        for part, x in self.batches():
            whole[part] = x
        return whole
