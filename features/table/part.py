"""A table in parts of about equal rows, each read from no more shards than it lies in: what several processes share."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import numpy as np
import pandas as pd

from features.sources.source import LearningSplit
from features.table.joined import JoinedTable
from features.table.table import BATCH_ROWS, FeatureTable, Rows


@dataclass(frozen=True)
class Stretch:
    """So many `rows` of a split, in these `shards`, after the first `lead` rows that they have of it."""

    shards: Sequence[str]
    lead: int
    rows: int


@dataclass(frozen=True)
class Part:
    """The part of the tables in `folders` that is to be learnt from by one process: a stretch of each split."""

    folders: Sequence[Path]
    stretches: Mapping[str, Stretch]


def parts_of(table: JoinedTable, most: int) -> list[Part]:
    """The rows to be learnt from, in `most` parts, or in as many as there are rows of the smaller split."""
    splits, shards = table.index()["split"].to_numpy(), table.tables[0].shards
    number = np.repeat(np.arange(len(shards)), table.tables[0].shard_rows())
    counts = {split: np.bincount(number[splits == split], minlength=len(shards)) for split in get_args(LearningSplit)}
    most = min(most, *(int(count.sum()) for count in counts.values()))
    names, folders = [shard.name for shard in shards], [each.folder for each in table.tables]
    return [
        Part(folders, {split: _stretch(names, count, each, most) for split, count in counts.items()})
        for each in range(most)
    ]


def _stretch(names: Sequence[str], counts: np.ndarray, number: int, of: int) -> Stretch:
    """The `number`-th of equal stretches of a split, of which each shard has so many rows."""
    ends = np.cumsum(counts)
    first, last = (int(ends[-1]) * each // of for each in (number, number + 1))
    begin, end = int(np.searchsorted(ends, first, side="right")), int(np.searchsorted(ends, last))
    return Stretch(names[begin : end + 1], first - int(ends[begin] - counts[begin]), last - first)


class PartTable(JoinedTable):
    """The rows of a part, to be learnt from."""

    def __init__(self, part: Part) -> None:
        super().__init__([FeatureTable.open(folder) for folder in part.folders])
        self._stretches = part.stretches
        self.rows = {split: stretch.rows for split, stretch in part.stretches.items()}

    def batches(self, split: str, size: int = BATCH_ROWS) -> Iterator[Rows]:
        """See JoinedTable."""
        lead, missing = self._stretches[split].lead, self.rows[split]
        for rows in self._shards_of(split).batches(split, size):
            mine = slice(lead, lead + missing)
            part = Rows(keys=rows.keys[mine], x=rows.x[mine], y=rows.y[mine])
            lead, missing = max(0, lead - len(rows)), missing - len(part)
            if len(part):
                yield part
            if not missing:
                return

    def index(self) -> pd.DataFrame:
        """See Indexed."""
        parts = []
        for split, stretch in self._stretches.items():
            index = self._shards_of(split).index()
            parts.append(index[index["split"] == split].iloc[stretch.lead : stretch.lead + stretch.rows])
        return pd.concat(parts, ignore_index=True)

    def _shards_of(self, split: str) -> JoinedTable:
        return JoinedTable([table.only(self._stretches[split].shards) for table in self.tables])
