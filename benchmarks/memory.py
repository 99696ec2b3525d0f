"""How the trees' memory grows with the table: on its own rows, and on its training rows four times over."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from benchmarks.contenders import open_tables
from benchmarks.tables import Repeated
from models.columns.workspace import Workspace
from models.heads.boosted import BoostedHead
from models.heads.settings import XgbSettings
from pipeline.costs import peak_bytes

TIMES = (1, 4)

ROUNDS = 20
"""Enough to hold all that trees ever hold."""


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
    columns, rows = head.model_.named_steps["xgb"].n_features_in_, table.rows["train"]
    return PeakMemory(rows=rows, peak_bytes=peak, quantised_bytes=quantised_bytes(columns, rows))


def quantised_bytes(columns: int, rows: int) -> int:
    """What XGBoost's hist method holds of `rows` rows of up to 256 bins a column, none of their values absent.

    By row: each value's bin in a byte, and where each row begins in 8. By column: a byte and a bit a value
    (GHistIndexMatrix and ColumnMatrix, as of XGBoost 3).
    """
    values = columns * rows
    return 2 * values + 8 * rows + values // 8


def growth(once: PeakMemory, repeated: PeakMemory) -> dict[str, float]:
    """How much more was held for the longer table, beyond its quantised rows, as a share of what the shorter held."""
    more = repeated.peak_bytes - once.peak_bytes
    quantised = repeated.quantised_bytes - once.quantised_bytes
    return {
        "more_bytes": more,
        "more_quantised_bytes": quantised,
        "beyond_quantised": (more - quantised) / once.peak_bytes,
    }
