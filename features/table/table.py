"""The feature table: Parquet shards with one fixed-size-list column, a ledger of what could not be read, a manifest.

    <folder>/part-00000.parquet …   key, split, label, sha256, features
    <folder>/errors.parquet         key, reason, exception
    <folder>/manifest.json          written last: a folder without it is not a table yet

Shards hold the same bytes for the same inputs. Rows are found by key, never by position.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from features.errors import TableError
from features.storage import Json, dataset_folder, digest, from_json, write_json
from features.table.ledger import LEDGER, read_ledger, reading
from features.trunk.spec import TrunkSpec

FORMAT = 2
"""Raised when the meaning of a table's content changes, so that older tables are not taken for newer ones."""

MANIFEST = "manifest.json"

BATCH_ROWS = 512


@dataclass(frozen=True, kw_only=True)
class TableSpec:
    """What a table is made of; two tables with the same `fingerprint` are the same table.

    `source_sha256` covers every image's key, split, label and stamp (see `Source.digest`).
    """

    dataset: str
    classes: tuple[str, ...]
    source_sha256: str
    trunk: TrunkSpec
    dim: int

    @property
    def fingerprint(self) -> str:
        """SHA-256 (64 hex digits) of the table's format and of the spec, but for the name of the weights' file."""
        return digest({"format": FORMAT, "source": self.source_sha256, **self.without_source()})

    @property
    def stem(self) -> str:
        """`<dataset>-<backbone>-<node>`."""
        return dataset_folder(self.dataset, f"-{self.trunk.backbone}-{self.trunk.node}")

    @property
    def folder_name(self) -> str:
        """`<dataset>-<backbone>-<node>-<8 hex of the fingerprint>`."""
        return f"{self.stem}-{self.fingerprint[:8]}"

    def without_source(self) -> dict[str, Json]:
        """The spec for JSON, without which images there are and how the weights' file is called."""
        trunk = self.trunk.to_json()
        del trunk["weights"]
        content = self.to_json() | {"trunk": trunk}
        del content["source_sha256"]
        return content

    def about_shards(self) -> dict[str, Json]:
        """What each shard says of itself; which images there are, and how the weights' file is called, is not in it."""
        return self.without_source() | {"transfer_learning": self.trunk.pretrained}

    def to_json(self) -> dict[str, Json]:
        """A dictionary that JSON can hold; `from_json` turns it back."""
        return asdict(self) | {"classes": list(self.classes), "trunk": self.trunk.to_json()}

    @classmethod
    def from_json(cls, content: Json) -> TableSpec:
        """The spec that `to_json` wrote; raises ValueError for anything else."""
        return from_json(cls, content)


@dataclass(frozen=True, kw_only=True)
class Rows:
    """Rows of a table: `keys` (n,) str, `x` (n, dim) float32, `y` (n,) int32, indices into the table's classes."""

    keys: NDArray[np.object_]
    x: NDArray[np.float32]
    y: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.y)


class FeatureTable:
    """A complete table on disk, read back as arrays, in batches, or as pandas. Use `open`.

    `rows` counts the rows of each split, `errors` what could not be read; `identity` is the SHA-256 of its manifest.

    >>> table = FeatureTable.open(Path("table"))
    >>> table.rows
    {'train': 30, 'test': 12, 'validation': 6}
    >>> rows = table.read("validation")
    >>> rows.x.shape, rows.keys[0], table.spec.classes[rows.y[0]]
    ((6, 512), 'beech/0009.jpg', 'beech')
    """

    def __init__(self, folder: Path, spec: TableSpec, manifest: dict[str, Any]) -> None:
        self.folder = folder
        self.spec = spec
        self.identity = digest(manifest)
        self.rows = {split: int(count) for split, count in manifest["rows"].items()}
        self.errors = int(manifest["errors"])
        self._sizes = {name: int(size) for name, size in manifest["shards"].items()}

    @classmethod
    def open(cls, folder: Path, fingerprint: str | None = None) -> FeatureTable:
        """Open the table in `folder`, and check that it is whole and, where given, that it has this fingerprint.

        Raises TableError.
        """
        content = _read_manifest(folder / MANIFEST)
        try:
            spec = TableSpec.from_json(content["spec"])
            table = cls(folder, spec, content)
            recorded = str(content["fingerprint"])
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise TableError(f"{folder}/manifest.json is of another format ({error!r}): delete {folder}") from error
        if recorded != spec.fingerprint or fingerprint not in (None, recorded):
            raise TableError(
                f"{folder} was made with other settings (fingerprint {recorded[:8]}, expected "
                f"{(fingerprint or spec.fingerprint)[:8]}): delete it, or choose another `out`"
            )
        if not table._sizes:
            raise TableError(f"{folder / MANIFEST} names no shards: delete it and run again")
        if not (folder / LEDGER).is_file():
            raise TableError(f"{folder / LEDGER} is missing: delete manifest.json beside it and run again")
        for name, size in table._sizes.items():
            found = (folder / name).stat().st_size if (folder / name).is_file() else 0
            if found != size:
                raise TableError(
                    f"{folder / name} has {found} bytes, expected {size}: delete it and manifest.json, run again"
                )
        return table

    @property
    def shards(self) -> tuple[Path, ...]:
        """The Parquet files that hold the rows, in order."""
        return tuple(self.folder / name for name in self._sizes)

    def read(self, split: str) -> Rows:
        """All rows of `train`, `validation` or `test`, in the table's order; raises TableError as `index` does."""
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
            with reading(shard), pq.ParquetFile(shard) as file:
                groups = [number for number in range(file.num_row_groups) if _may_hold(file.metadata, number, split)]
                columns = ["key", "split", "label", "features"]
                for batch in file.iter_batches(batch_size=size, row_groups=groups, columns=columns):
                    chosen = np.asarray(batch["split"]) == split
                    if chosen.any():
                        rows = Rows(
                            keys=np.asarray(batch["key"])[chosen],
                            x=_matrix(batch["features"])[chosen].astype(np.float32),
                            y=np.asarray(batch["label"])[chosen],
                        )
                        self._check_finite(rows)
                        yield rows

    def labels(self, split: str) -> NDArray[np.int32]:
        """The labels of a split, (n,), in the order of `read`, without its features."""
        index = self.index()
        return index.loc[index["split"] == split, "label"].to_numpy(np.int32, copy=True)

    def to_pandas(self, split: str | None = None) -> pd.DataFrame:
        """`key`, `split`, `label` and `sha256`, then one float32 column a feature, named f0 … ; all splits or one."""
        splits = [split] if split else list(self.rows)
        rows = [self.read(name) for name in splits]
        features = pd.DataFrame(
            np.concatenate([part.x for part in rows]), columns=[f"f{i}" for i in range(self.spec.dim)]
        )
        keys = pd.DataFrame({"key": np.concatenate([part.keys for part in rows])})
        return pd.concat([keys.merge(self.index(), on="key", how="left", validate="1:1"), features], axis=1)

    def index(self) -> pd.DataFrame:
        """Every row's `key`, `split`, `label` and `sha256`, without its features.

        Raises TableError for a shard of another table, a key that is there twice, a label that numbers no class, and
        splits that have not as many rows as the manifest says.
        """
        columns = ["key", "split", "label", "sha256"]
        parts = []
        for shard in self.shards:
            with reading(shard):
                part = pq.read_table(shard, columns=columns)
            self._check_origin(shard, part.schema)
            parts.append(part.to_pandas())
        index = pd.concat(parts, ignore_index=True)
        self._check_index(index)
        return index

    def test_duplicates(self) -> int:
        """How many test images are, byte for byte, training or validation images as well."""
        index = self.index()
        test = index["split"] == "test"
        return int(index.loc[test, "sha256"].isin(index.loc[~test, "sha256"]).sum())

    def ledger(self) -> pd.DataFrame:
        """What could not be read: `key`, `reason` and `exception`."""
        return read_ledger(self.folder)

    def _check_origin(self, path: Path, schema: pa.Schema) -> None:
        about, expected = json.loads((schema.metadata or {}).get(b"treehead", b"null")), self.spec.about_shards()
        if about != expected:
            raise TableError(
                f"{path} is of another table (fingerprint {digest(about)[:8]}, expected {digest(expected)[:8]}): "
                f"delete {self.folder} and run again"
            )

    def _check_index(self, index: pd.DataFrame) -> None:
        last = len(self.spec.classes) - 1
        twice, strange = index[index["key"].duplicated()], index[~index["label"].between(0, last)]
        rows = {str(split): int(count) for split, count in index["split"].value_counts().items()}
        if not twice.empty:
            what = f"the key {twice['key'].iloc[0]!r} more than once, expected each image once"
        elif not strange.empty:
            what = f"the label {strange['label'].iloc[0]}, expected 0 to {last}"
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


def write_manifest(folder: Path, spec: TableSpec, rows: dict[str, int], errors: int, shards: list[str]) -> None:
    """Declare the table complete."""
    content: Json = {
        "fingerprint": spec.fingerprint,
        "transfer_learning": spec.trunk.pretrained,
        "rows": rows,
        "errors": errors,
        "shards": {name: (folder / name).stat().st_size for name in shards},
        "spec": spec.to_json(),
    }
    write_json(folder / MANIFEST, content)


def _read_manifest(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise TableError(
            f"{path} is missing, so {path.parent} is no complete feature table: run features first"
        ) from error
    except (ValueError, TypeError) as error:
        raise TableError(
            f"{path} is cut short or damaged: delete it and run again, finished shards are kept"
        ) from error


def _may_hold(metadata: Any, group: int, split: str) -> bool:
    """Whether a row group can have rows of a split, as far as its statistics tell."""
    column = metadata.row_group(group).column(metadata.schema.names.index("split"))
    statistics = column.statistics
    return statistics is None or not statistics.has_min_max or statistics.min <= split <= statistics.max


def _matrix(column: Any) -> NDArray[np.float16]:
    """The column as an (n, dim) array, without a copy."""
    matrix: NDArray[np.float16] = column.flatten().to_numpy().reshape(len(column), -1)
    return matrix
