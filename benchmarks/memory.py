"""How the trees' memory grows with the table: on its own rows, and on its training rows four times over."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.contenders import open_tables
from benchmarks.tables import Repeated
from models.columns.workspace import Workspace
from models.heads.boosted import BoostedHead
from models.heads.quantised import ABSENT
from models.heads.settings import XgbSettings
from pipeline.costs import peak_bytes

TIMES = (1, 4)

ROUNDS = 20
"""Enough to hold all that trees ever hold."""

SPARSE = 0.2
"""XGBoost keeps a column with a lower share of present values as a list of these."""


@dataclass(frozen=True, kw_only=True)
class MemoryJob:
    """The tables in `folders`, their training rows `times` over."""

    times: int
    folders: tuple[Path, ...]
    seed: int


@dataclass(frozen=True, kw_only=True)
class PeakMemory:
    """Training rows, the most memory that the process held, and the part of it that quantised rows are, in bytes."""

    rows: int
    peak_bytes: int
    quantised_bytes: int


def measure_memory(job: MemoryJob) -> PeakMemory:
    """Grow a few trees on the CPU; meant for a process of its own."""
    table = Repeated(open_tables(job.folders), job.times)
    head = BoostedHead(XgbSettings(rounds=ROUNDS), seed=job.seed, device=torch.device("cpu"))
    with Workspace() as workspace:
        head.fit(table, workspace, lambda _: None)
    peak = peak_bytes()
    present = sum(
        np.count_nonzero(head.model_.named_steps["reduce"].transform(rows.x) != ABSENT, axis=0)
        for rows in table.batches("train")
    )
    rows = table.rows["train"]
    return PeakMemory(rows=rows, peak_bytes=peak, quantised_bytes=quantised_bytes(np.asarray(present), rows))


def quantised_bytes(present: NDArray[np.intp], rows: int) -> int:
    """What XGBoost's hist method holds of `rows` rows of up to 256 bins a column, `present` (c,) of them not absent.

    By row: each present value's bin in 4 bytes (1 where none is absent) and where each row begins in 8. By column:
    a byte and a bit a value, absent ones counted but in sparse columns; 8 more bytes each for its row once any
    column is sparse (GHistIndexMatrix and ColumnMatrix, as of XGBoost 3).
    """
    sparse = present < SPARSE * rows
    values = int(present[sparse].sum() + rows * np.count_nonzero(~sparse))
    width = 1 if present.sum() == rows * len(present) else 4
    return int(width * present.sum() + 8 * rows + values * (1 + 8 * sparse.any()) + values / 8)


def growth(once: PeakMemory, repeated: PeakMemory) -> dict[str, float]:
    """How much more was held for the longer table, beyond its quantised rows, as a share of what the shorter held."""
    more = repeated.peak_bytes - once.peak_bytes
    quantised = repeated.quantised_bytes - once.quantised_bytes
    return {
        "more_bytes": more,
        "more_quantised_bytes": quantised,
        "beyond_quantised": (more - quantised) / once.peak_bytes,
    }
