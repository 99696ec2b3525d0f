"""Rows of earlier tables, found again by key and stamp: an image is taken through a trunk once, however it is dealt."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from features.storage import FileRecord
from features.stores import opened
from features.table.ledger import reading
from features.table.manifest import TableSpec, recorded_shards
from features.table.shard import LISTED

HELD = 4
"""Shards that are held in memory: rows that are in order here lie in order there, for each split."""


class EarlierRows:
    """Where the rows of `items` (key, stamp) stand in undamaged shards in `folders` that were made by the same trunk.

    Rows are the same to the bit that were made in batches of the same size; others may be rounded otherwise.
    """

    def __init__(self, spec: TableSpec, folders: Sequence[Path], items: pd.DataFrame) -> None:
        self._about = {**spec.about_shards(), "classes": []}  # of a row, whatever its label is called
        self._keys, self._stamps = pd.Index(items["key"]), items["stamp"].to_numpy()
        self._paths: list[Path] = []
        self._file, self._row = np.full((2, len(items)), -1)
        self._images = lru_cache(maxsize=HELD)(self._read)
        for folder in folders:
            records = recorded_shards(folder)
            for path in sorted(folder.glob("part-*.parquet")):
                self._look(path, records)

    def of(self, items: pd.DataFrame) -> pa.Table | None:
        """The rows of some `items`, in their order, all columns but LISTED; None unless all of them are there."""
        at = self._keys.get_indexer(pd.Index(items["key"]))
        files, rows = self._file[at], self._row[at]
        if (files < 0).any():
            return None
        parts = [self._images(int(file)).take(rows[files == file]) for file in np.unique(files)]
        order = np.argsort(files, kind="stable")
        return pa.concat_tables(parts).take(np.argsort(order)).combine_chunks()

    def folders(self) -> list[Path]:
        """Where some of the rows are."""
        return sorted({path.parent for path in self._paths})

    def _look(self, path: Path, records: Mapping[str, FileRecord]) -> None:
        """Note the rows at `path` that are wanted and were not found before."""
        try:
            table = pq.read_table(opened(path), columns=["key", "stamp"])
            about = json.loads((table.schema.metadata or {})[b"treehead"])
        except (OSError, pa.ArrowException, KeyError, ValueError):  # no shard, or one of an earlier format
            return
        if {**about, "classes": []} != self._about:
            return
        at = self._keys.get_indexer(pd.Index(table["key"].to_pylist()))
        found = (at >= 0) & (self._file[at] < 0) & (self._stamps[at] == np.array(table["stamp"].to_pylist(), object))
        if found.any() and (path.name not in records or records[path.name].fits(path)):
            self._file[at[found]], self._row[at[found]] = len(self._paths), np.flatnonzero(found)
            self._paths.append(path)

    def _read(self, file: int) -> pa.Table:
        with reading(self._paths[file]):
            whole = pq.read_table(opened(self._paths[file]))
        return whole.drop_columns(list(LISTED)).replace_schema_metadata()
