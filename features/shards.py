"""One Parquet file of a feature table: its schema, how it is written, and whether one that is there is finished."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from features.storage import replacing
from features.table import TableSpec

ROW_GROUP = 512


def shard_name(number: int) -> str:
    """The file name of shard `number`."""
    return f"part-{number:05d}.parquet"


@dataclass(frozen=True, kw_only=True)
class ShardSummary:
    """What a shard adds to its table: rows of each split, and ledger entries of key, reason and exception."""

    rows: dict[str, int]
    errors: list[dict[str, str]]


def write_shard(
    path: Path, spec: TableSpec, rows: pd.DataFrame, features: NDArray[np.float16], errors: list[dict[str, str]]
) -> ShardSummary:
    """Write one shard: `rows` has key, split, label and sha256, `features` is (n, dim) float16 in the same order.

    The shard carries its part of the ledger in its metadata, so that a finished shard need never be looked at again.
    """
    schema = _schema(spec, errors)
    values = pa.array(features.reshape(-1), type=pa.float16())
    arrays = [pa.array(rows[field.name].tolist(), type=field.type) for field in list(schema)[:-1]]
    arrays.append(pa.FixedSizeListArray.from_arrays(values, type=schema.field("features").type))
    with replacing(path) as scratch:
        pq.write_table(
            pa.Table.from_arrays(arrays, schema=schema),
            scratch,
            compression="zstd",
            row_group_size=ROW_GROUP,
            use_dictionary=False,
            write_statistics=["key", "split", "label"],
        )
    return ShardSummary(rows=_count(rows["split"]), errors=errors)


def shard_summary(path: Path, spec: TableSpec, keys: list[str]) -> ShardSummary | None:
    """The summary of a finished shard of this table that holds just these images, or None where there is none."""
    try:
        table = pq.read_table(path, columns=["key", "split"])
        errors = json.loads(table.schema.metadata[b"treehead.errors"])
        made_for = table.schema.metadata[b"treehead.fingerprint"].decode()
    except (OSError, pa.ArrowException, KeyError, TypeError, ValueError):
        return None
    held = {*table["key"].to_pylist(), *(error["key"] for error in errors)}
    if made_for != spec.fingerprint or held != set(keys):
        return None
    return ShardSummary(rows=_count(table["split"].to_pandas()), errors=errors)


def _schema(spec: TableSpec, errors: list[dict[str, str]]) -> pa.Schema:
    item = pa.field("item", pa.float16(), nullable=False)
    kinds = {
        "key": pa.string(),
        "split": pa.string(),
        "label": pa.int32(),
        "sha256": pa.string(),
        "features": pa.list_(item, spec.dim),
    }
    metadata: dict[bytes | str, bytes | str] = {
        "treehead": json.dumps({**spec.to_json(), "transfer_learning": spec.trunk.pretrained}),
        "treehead.fingerprint": spec.fingerprint,
        "treehead.errors": json.dumps(errors),
    }
    fields = [pa.field(name, kind, nullable=False) for name, kind in kinds.items()]
    return pa.schema(fields, metadata=metadata)


def _count(splits: pd.Series[str]) -> dict[str, int]:
    return {str(name): int(count) for name, count in splits.value_counts().items()}
