"""The feature table: Parquet shards with one fixed-size-list column, a ledger of what could not be read, a manifest.

    <folder>/part-00000.parquet …   key, split, label, group, stamp, sha256, bytes, size, looks, features
    <folder>/errors.parquet         key, reason, exception
    <folder>/manifest.json          written last: a folder without it is not a table yet

Shards hold the same bytes for the same inputs. Rows are found by key, never by position.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from features.errors import TableError
from features.looks import SIDE
from features.near.clusters import clusters
from features.sources.source import UNLABELLED
from features.storage import FileRecord, digest
from features.stores import opened, place
from features.table.ledger import LEDGER, read_ledger, reading
from features.table.manifest import MANIFEST, Manifest, TableSpec
from features.table.shard import IMAGE_COLUMNS

BATCH_ROWS = 512

RUN_AGAIN = "run features again, which makes it anew and keeps the others"


@dataclass(frozen=True, kw_only=True)
class Rows:
    """Rows of a table: `keys` (n,) str, `x` (n, dim) float32, `y` (n,) int32, of classes or UNLABELLED."""

    keys: NDArray[np.object_]
    x: NDArray[np.float32]
    y: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.y)


class Indexed(ABC):
    """What the `index` of a table tells by itself, without the features."""

    @abstractmethod
    def index(self) -> pd.DataFrame:
        """Every row's `key`, `split`, `label` (UNLABELLED for null), `group` (null: it stands alone) and `sha256`."""

    def labels(self, split: str) -> NDArray[np.int32]:
        """The labels of a split, (n,), in the order of `read`."""
        index = self.index()
        return index.loc[index["split"] == split, "label"].to_numpy(np.int32, copy=True)

    def test_duplicates(self) -> int:
        """How many test images are, byte for byte, training or validation images as well."""
        index = self.index()
        test = index["split"] == "test"
        return int(index.loc[test, "sha256"].isin(index.loc[~test, "sha256"]).sum())

    def alike(self, split: str) -> NDArray[np.intp]:
        """A number for each row of a split, (n,), in the order of `read`, as `families` has them."""
        index = self.index()
        return families(index[index["split"] == split])


class FeatureTable(Indexed):
    """A complete table on disk, read back as arrays, in batches, or as pandas. Use `open`.

    `rows` counts the rows of each split, `errors` what could not be read; `identity` is the SHA-256 of its manifest.

    >>> table = FeatureTable.open("table")
    >>> table.rows
    {'train': 33, 'test': 11, 'validation': 4}
    >>> rows = table.read("validation")
    >>> rows.x.shape, rows.keys[0], table.spec.classes[rows.y[0]]
    ((4, 512), 'beech/0003.jpg', 'beech')
    """

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        self.folder = folder
        self.spec = manifest.spec
        self.identity = manifest.identity
        self.rows = dict(manifest.rows)
        self.errors = manifest.errors
        self._records = {**manifest.shards, LEDGER: manifest.ledger}
        self._unchecked = set(self._records)

    @classmethod
    def open(cls, folder: str | Path, fingerprint: str | None = None) -> FeatureTable:
        """Open the table in `folder`, and check that it is whole and, where given, that it has this fingerprint.

        What is in a file is checked when it is first read. Raises TableError.
        """
        folder = place(folder)
        manifest = Manifest.read(folder)
        manifest.check_spec(folder, fingerprint)
        table = cls(folder, manifest)
        for name, record in table._records.items():
            found = (folder / name).stat().st_size if (folder / name).is_file() else 0
            if found != record.bytes:
                raise TableError(f"{folder / name} has {found} bytes, expected {record.bytes}: {RUN_AGAIN}")
        return table

    @property
    def shards(self) -> tuple[Path, ...]:
        """The Parquet files that hold the rows, in order."""
        return tuple(self.folder / name for name in self._records if name != LEDGER)

    def shard_rows(self) -> list[int]:
        """How many rows each shard has."""
        return [len(part) for part in self._parts("split")]

    def only(self, shards: Collection[str]) -> FeatureTable:
        """The rows of these shards alone, which are of this table's manifest."""
        part = copy(self)
        part._records = {name: record for name, record in self._records.items() if name in (*shards, LEDGER)}
        part.rows = {str(name): int(rows) for name, rows in part._columns("split").value_counts("split").items()}
        return part

    def is_intact(self) -> bool:
        """Whether every file is the one that the manifest names; those that are need no other check."""
        return all(self._is_right(name) for name in list(self._records))

    def read(self, split: str) -> Rows:
        """All rows of a split, `all` without labels, in the table's order; raises TableError as `index` does."""
        count, dim = len(self.labels(split)), self.spec.dim
        whole = Rows(keys=np.empty(count, object), x=np.empty((count, dim), np.float32), y=np.empty(count, np.int32))
        start = 0
        for rows in self.batches(split):
            end = start + len(rows)
            whole.keys[start:end], whole.x[start:end], whole.y[start:end] = rows.keys, rows.x, rows.y
            start = end
        return whole

    def batches(self, split: str, size: int = BATCH_ROWS) -> Iterator[Rows]:
        """The rows of a split, at most `size` at a time, one row group in memory; TableError unless all are finite."""
        for shard in self.shards:
            with reading(shard), pq.ParquetFile(self._checked(shard.name)) as file:
                groups = [number for number in range(file.num_row_groups) if _may_hold(file.metadata, number, split)]
                columns = ["key", "split", "label", "features"]
                for batch in file.iter_batches(batch_size=size, row_groups=groups, columns=columns):
                    chosen = np.asarray(batch["split"]) == split
                    if chosen.any():
                        rows = Rows(
                            keys=np.asarray(batch["key"])[chosen],
                            x=_matrix(batch["features"])[chosen].astype(np.float32),
                            y=np.asarray(batch["label"].fill_null(UNLABELLED))[chosen],
                        )
                        self._check_finite(rows)
                        yield rows

    def to_pandas(self, split: str | None = None) -> pd.DataFrame:
        """What `index` has of every row, then one float32 column a feature, named f0 … ; all splits or one."""
        splits = [split] if split else list(self.rows)
        rows = [self.read(name) for name in splits]
        features = pd.DataFrame(
            np.concatenate([part.x for part in rows]), columns=[f"f{i}" for i in range(self.spec.dim)]
        )
        keys = pd.DataFrame({"key": np.concatenate([part.keys for part in rows])})
        return pd.concat([keys.merge(self.index(), on="key", how="left", validate="1:1"), features], axis=1)

    def index(self) -> pd.DataFrame:
        """As `Indexed.index` says, without the features.

        Raises TableError for a shard that was changed or is of another table, a key that is there twice, a label that
        numbers no class, and splits that have not as many rows as the manifest says.
        """
        index = self._columns("key", "split", "label", "group", "sha256").fillna({"label": UNLABELLED})
        index = index.astype({"label": "int32"})
        self._check_index(index)
        return index

    def images(self) -> pd.DataFrame:
        """Every row's `key`, and what it tells of its image but for the thumbnail; see IMAGE_COLUMNS."""
        return self._columns("key", *(name for name in IMAGE_COLUMNS if name != "thumbnail"))

    def thumbnails(self) -> NDArray[np.uint8]:
        """A small grey picture of every row's image, (n, s, s), in the order of `images`."""
        parts = (_matrix(part["thumbnail"].combine_chunks()) for part in self._parts("thumbnail"))
        return np.concatenate(list(parts)).reshape(-1, SIDE, SIDE)

    def _columns(self, *names: str) -> pd.DataFrame:
        parts = (part.to_pandas(integer_object_nulls=True) for part in self._parts(*names))
        return pd.concat(parts, ignore_index=True)

    def _parts(self, *names: str) -> Iterator[pa.Table]:
        """Columns of each shard."""
        for shard in self.shards:
            with reading(shard):
                part = pq.read_table(self._checked(shard.name), columns=list(names))
            self._check_origin(shard, part.schema)
            yield part

    def ledger(self) -> pd.DataFrame:
        """What could not be read: `key`, `reason` and `exception`; raises TableError as `index` does."""
        self._checked(LEDGER)
        return read_ledger(self.folder)

    def _checked(self, name: str) -> Any:
        """A file, as pyarrow reads it, once it is found to be the one that the manifest names."""
        path = self.folder / name
        if not self._is_right(name):
            raise TableError(f"{path} is not the file that {MANIFEST} names (its SHA-256 differs): {RUN_AGAIN}")
        return opened(path)

    def _is_right(self, name: str) -> bool:
        if name in self._unchecked and self._records[name].fits(self.folder / name):
            self._unchecked.discard(name)
        return name not in self._unchecked

    def _check_origin(self, path: Path, schema: pa.Schema) -> None:
        about, expected = json.loads((schema.metadata or {}).get(b"treehead", b"null")), self.spec.about_shards()
        if about != expected:
            raise TableError(
                f"{path} is of another table (fingerprint {digest(about)[:8]}, expected {digest(expected)[:8]}): "
                f"delete {self.folder} and run again"
            )

    def _check_index(self, index: pd.DataFrame) -> None:
        least, last = (0, len(self.spec.classes) - 1) if self.spec.classes else (UNLABELLED, UNLABELLED)
        twice, strange = index[index["key"].duplicated()], index[~index["label"].between(least, last)]
        rows = {str(split): int(count) for split, count in index["split"].value_counts().items()}
        if not twice.empty:
            what = f"the key {twice['key'].iloc[0]!r} more than once, expected each image once"
        elif not strange.empty:
            what = f"the label {strange['label'].iloc[0]}, expected {least} to {last}"
        elif rows != self.rows:
            what = f"{rows} rows, expected {self.rows}"
        else:
            return
        raise TableError(f"{self.folder} has {what}: delete it and run again")

    def _check_finite(self, rows: Rows) -> None:
        finite = np.isfinite(rows.x.sum(axis=1, dtype=np.float64))
        if not finite.all():
            raise TableError(
                f"{self.folder} has features that are infinite or not a number "
                f"(first: {rows.keys[np.argmin(finite)]}): delete it and run again"
            )


def families(index: pd.DataFrame) -> NDArray[np.intp]:
    """A number from 0 for each row of an index, (n,): the same for images of the same bytes or of one group.

    >>> families(pd.DataFrame({"sha256": list("abbcd"), "group": ["x", "x", "y", "y", None]}))
    array([0, 0, 0, 0, 1])
    """
    (images, _), (groups, names) = (pd.factorize(index[name]) for name in ("sha256", "group"))
    linked, count = groups >= 0, int(images.max(initial=-1)) + 1
    return clusters(images[linked], count + groups[linked], count + len(names))[images]


def close_table(folder: Path, spec: TableSpec, rows: Mapping[str, int], errors: int, shards: Sequence[str]) -> None:
    """Write the manifest of a table whose files are all in `folder`, `shards` in this order."""
    Manifest(
        fingerprint=spec.fingerprint,
        transfer_learning=spec.trunk.pretrained,
        rows=dict(rows),
        errors=errors,
        shards={name: FileRecord.of(folder / name) for name in shards},
        ledger=FileRecord.of(folder / LEDGER),
        spec=spec,
    ).write(folder)


def _may_hold(metadata: Any, group: int, split: str) -> bool:
    """Whether a row group can have rows of a split, as far as its statistics tell."""
    column = metadata.row_group(group).column(metadata.schema.names.index("split"))
    statistics = column.statistics
    return statistics is None or not statistics.has_min_max or statistics.min <= split <= statistics.max


def _matrix(column: Any) -> NDArray[Any]:
    """The column as an (n, dim) array, without a copy."""
    matrix: NDArray[Any] = column.flatten().to_numpy().reshape(len(column), -1)
    return matrix
