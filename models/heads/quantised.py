"""Rows for XGBoost, batch by batch, out of a workspace: neither the table nor its floats are ever all in memory."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
import xgboost

from models.columns.workspace import StoredRows

MakeColumns = Callable[[slice, torch.Tensor], torch.Tensor]
"""From which rows these are and their (n, d) float16, the (n, c) float32 that trees see, on the device of training."""


def quantise(
    rows: StoredRows,
    columns: MakeColumns,
    *,
    max_bin: int,
    ref: xgboost.DMatrix | None = None,
    cache: Path | None = None,
) -> xgboost.DMatrix:
    """Quantise `columns` of the rows, with the bins of `ref` where that is given, and on disk where `cache` is."""
    batches = _Batches(rows, columns, cache)
    if cache:
        return xgboost.ExtMemQuantileDMatrix(batches, max_bin=max_bin, ref=ref)
    return xgboost.QuantileDMatrix(batches, max_bin=max_bin, ref=ref)


class _Batches(xgboost.DataIter):
    """Hands XGBoost the columns of stored rows, as often as it asks."""

    def __init__(self, rows: StoredRows, columns: MakeColumns, cache: Path | None) -> None:
        super().__init__(cache_prefix=str(cache) if cache else None, release_data=True)
        self._rows, self._columns = rows, columns
        self.reset()

    def next(self, input_data: Callable[..., object]) -> bool:
        """Give the next rows; False where there are none left."""
        for part, batch in self._batches:
            x = self._columns(part, batch)
            input_data(data=x if x.is_cuda else x.numpy(), label=self._rows.labels[part])
            return True
        return False

    def reset(self) -> None:
        """Begin again."""
        self._batches = self._rows.batches()
