"""Feature tables made of others: some of the rows, written; the training rows several times over, streamed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from features.storage import digest
from features.table.joined import JoinedTable
from features.table.ledger import write_ledger
from features.table.shard import ROW_GROUP
from features.table.table import BATCH_ROWS, FeatureTable, Rows, close_table

NOISE = 0.02
"""How far, at most, a repeated row is scaled up or down, so that it is a row of its own."""


class Repeated(JoinedTable):
    """A table whose training rows come `times` over, each time scaled a little; they are streamed, never held."""

    def __init__(self, table: JoinedTable, times: int) -> None:
        super().__init__(table.tables)
        self._times = times
        self.rows = table.rows | {"train": times * table.rows["train"]}

    @property
    def identity(self) -> str:
        """SHA-256 (64 hex digits) of the table's and of how often its rows come."""
        return digest([super().identity, self._times])

    def read(self, split: str) -> Rows:
        """All rows of a split."""
        parts = list(self.batches(split))
        return Rows(
            keys=np.concatenate([part.keys for part in parts]),
            x=np.concatenate([part.x for part in parts]),
            y=np.concatenate([part.y for part in parts]),
        )

    def batches(self, split: str, size: int = BATCH_ROWS) -> Iterator[Rows]:
        """The rows of a split, at most `size` at a time; the same whenever they are asked for."""
        random = np.random.default_rng(0)
        for _ in range(self._times if split == "train" else 1):
            for rows in super().batches(split, size):
                scale = random.uniform(1 - NOISE, 1 + NOISE, (len(rows), 1)) if split == "train" else 1
                yield Rows(keys=rows.keys, x=(rows.x * scale).astype(np.float32), y=rows.y)

    def labels(self, split: str) -> NDArray[np.int32]:
        """The labels of a split, (n,), in the order of `read`."""
        return np.tile(super().labels(split), self._times if split == "train" else 1)

    def index(self) -> pd.DataFrame:
        """`key`, `split`, `label` and `sha256` of every row."""
        index = super().index()
        return pd.concat([index] + [index[index["split"] == "train"]] * (self._times - 1), ignore_index=True)


def in_proportion(table: JoinedTable, rows: int, seed: int) -> list[str]:
    """The keys of `rows` training and validation rows, each split and class in proportion, and of all test rows."""
    index = table.index().sort_values("key")
    test = index["split"] == "test"
    learning = index[~test]
    draw = pd.Series(np.random.default_rng(seed).random(len(learning)), learning.index)
    groups = draw.groupby([learning["split"], learning["label"]])
    # A group's rows spread evenly over (0, 1); the lowest `rows` of all then hold every group in proportion.
    quantile = (groups.rank(method="first") - 0.5) / groups.transform("size")
    chosen = quantile.sort_values(kind="stable").index[:rows]
    return [*learning.loc[chosen, "key"], *index.loc[test, "key"]]


def write_some(table: JoinedTable, keys: list[str], folder: Path) -> JoinedTable:
    """Write the rows that have one of `keys` to tables below `folder`, so that reading them costs what they cost."""
    return JoinedTable([_write_some(each, pa.array(keys), folder / each.spec.folder_name) for each in table.tables])


def _write_some(table: FeatureTable, keys: pa.StringArray, folder: Path) -> FeatureTable:
    folder.mkdir(parents=True)
    file = folder / "part-00000.parquet"
    rows: Counter[str] = Counter()
    with pq.ParquetWriter(file, pq.read_schema(table.shards[0]), compression="zstd", use_dictionary=False) as writer:
        for shard in table.shards:
            whole = pq.read_table(shard)
            some = whole.filter(pc.is_in(whole["key"], keys))
            rows.update(map(str, some["split"].to_pylist()))
            writer.write_table(some, row_group_size=ROW_GROUP)
    write_ledger(folder, [])
    close_table(folder, table.spec, rows, 0, [file.name])
    return FeatureTable.open(folder)
