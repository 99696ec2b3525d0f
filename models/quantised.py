"""Rows for XGBoost, batch by batch: a table's chosen columns go through a scratch file once, never all into memory."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable
from typing import IO, Any

import numpy as np
import xgboost
from numpy.typing import NDArray

from models.data import Labelled

BATCH_ROWS = 4096


def quantise(
    batches: Iterable[Labelled], columns: NDArray[np.intp], *, max_bin: int, ref: xgboost.QuantileDMatrix | None = None
) -> xgboost.QuantileDMatrix:
    """Quantise `columns` of the rows in `batches`, with the bins of `ref` where that is given."""
    with tempfile.TemporaryFile() as scratch:
        labels = []
        for x, y in batches:
            scratch.write(np.ascontiguousarray(x[:, columns]).tobytes())
            labels.append(y)
        rows = _Rows(scratch, np.concatenate(labels), len(columns))
        return xgboost.QuantileDMatrix(rows, max_bin=max_bin, ref=ref)


class _Rows(xgboost.DataIter):
    """Hands XGBoost the rows of a scratch file of float32, as often as it asks."""

    def __init__(self, scratch: IO[bytes], labels: NDArray[np.int32], columns: int) -> None:
        super().__init__(release_data=True)
        self._scratch, self._labels, self._columns = scratch, labels, columns
        self._done = 0

    def next(self, input_data: Callable[..., Any]) -> bool:
        """Give the next rows; False where there are none left."""
        y = self._labels[self._done : self._done + BATCH_ROWS]
        if not len(y):
            return False
        x = np.frombuffer(self._scratch.read(len(y) * self._columns * 4), np.float32).reshape(len(y), -1)
        self._done += len(y)
        input_data(data=x, label=y)
        return True

    def reset(self) -> None:
        """Begin again."""
        self._scratch.seek(0)
        self._done = 0
