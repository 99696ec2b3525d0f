"""One Parquet file of a feature table: which images it holds, its schema, and how a finished one is told."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from features.looks import LOOKS, SIDE
from features.sources.source import UNLABELLED
from features.storage import Json, digest, from_json, hashed, replacing
from features.stores import opened
from features.table.ledger import LedgerEntry
from features.table.manifest import FORMAT, TableSpec

LEAST_IMAGES = 256
MOST_IMAGES = 1024
LIKELY_IMAGES = 512
"""Beyond LEAST_IMAGES, one image in so many ends its shard."""

ROW_GROUP = 512

IMAGE_COLUMNS = {
    "sha256": pa.string(),
    "bytes": pa.int64(),
    "width": pa.int32(),
    "height": pa.int32(),
    **dict.fromkeys(LOOKS, pa.float32()),
    "thumbnail": pa.list_(pa.field("item", pa.uint8(), nullable=False), SIDE * SIDE),
}
"""What each row tells of its image besides the features: of its file, its size in pixels, and how it looks."""

LISTED = ("key", "split", "label", "group", "stamp")
"""The columns that the source decides; all others depend on the image and the trunk alone."""


@dataclass(frozen=True, kw_only=True)
class Shard:
    """A run of a source's items, the file that holds their rows, and a `fingerprint` of all that decides its bytes."""

    name: str
    items: pd.DataFrame
    fingerprint: str


@dataclass(frozen=True, kw_only=True)
class ShardSummary:
    """What a shard adds to its table: rows of each split, and ledger entries; `fingerprint` is the shard's."""

    fingerprint: str
    rows: dict[str, int]
    errors: list[LedgerEntry]


def cut_into_shards(items: pd.DataFrame) -> list[pd.DataFrame]:
    """Cut a source's items, in order, where a hash of the key says so, as content-defined chunking does.

    An image that is added or removed changes the shard that it belongs to, and the others stay as they are.
    Method: Muthitacharoen et al., A low-bandwidth network file system (2001).

    >>> items = pd.DataFrame({"key": [f"{number:04d}.jpg" for number in range(3000)]})
    >>> [len(part) for part in cut_into_shards(items)]
    [416, 477, 364, 257, 1024, 287, 175]
    >>> [len(part) for part in cut_into_shards(items.drop(index=1000))]
    [416, 477, 363, 257, 1024, 287, 175]
    """
    cuts = [0]
    for row, key in enumerate(items["key"], start=1):
        size = row - cuts[-1]
        if size == MOST_IMAGES or (size >= LEAST_IMAGES and hashed(key) % LIKELY_IMAGES == 0):
            cuts.append(row)
    if cuts[-1] < len(items):
        cuts.append(len(items))
    return [items.iloc[start:end] for start, end in pairwise(cuts)]


def name_shards(spec: TableSpec, parts: Sequence[pd.DataFrame]) -> list[Shard]:
    """The shards of a table, in order."""
    table = spec.without_source()
    return [
        Shard(name=f"part-{number:05d}.parquet", items=items, fingerprint=_fingerprint(table, items))
        for number, items in enumerate(parts)
    ]


def write_shard(
    path: Path,
    spec: TableSpec,
    shard: Shard,
    images: pd.DataFrame,
    features: NDArray[np.float16],
    errors: list[LedgerEntry],
) -> ShardSummary:
    """Write a shard of the images that have `features`, (n, dim) float16.

    `images` tells, by their row in `shard.items`, what the images alone decide, see IMAGE_COLUMNS.
    The shard carries its part of the ledger in its metadata, so that a finished shard need never be looked at again.
    """
    values = pa.array(features.reshape(-1), type=pa.float16())
    columns = {name: pa.array(images[name].tolist(), type=kind) for name, kind in IMAGE_COLUMNS.items()}
    columns["features"] = pa.FixedSizeListArray.from_arrays(values, type=_kinds(spec)["features"])
    return _write(path, spec, replace(shard, items=shard.items.loc[images.index]), columns, errors)


def copy_shard(path: Path, spec: TableSpec, shard: Shard, images: pa.Table) -> ShardSummary:
    """Write a shard of rows that stand elsewhere: `images` has all columns but LISTED, in the order of its items."""
    return _write(path, spec, shard, dict(zip(images.column_names, images.columns, strict=True)), [])


def _write(
    path: Path, spec: TableSpec, shard: Shard, images: Mapping[str, Any], errors: list[LedgerEntry]
) -> ShardSummary:
    """Write the rows of `shard.items`, whose other columns are `images`."""
    rows = shard.items.assign(label=shard.items["label"].astype(object).where(shard.items["label"] != UNLABELLED, None))
    counts = {str(name): int(count) for name, count in rows["split"].value_counts().items()}
    summary = ShardSummary(fingerprint=shard.fingerprint, rows=counts, errors=errors)
    schema = _schema(spec, summary)
    listed = {name: pa.array(rows[name].tolist(), type=schema.field(name).type, from_pandas=True) for name in LISTED}
    arrays = [(listed | dict(images))[name] for name in schema.names]
    with replacing(path) as scratch:
        pq.write_table(
            pa.Table.from_arrays(arrays, schema=schema),
            scratch,
            compression="zstd",
            row_group_size=ROW_GROUP,
            use_dictionary=False,
            write_statistics=["key", "split", "label"],
        )
    return summary


def read_summary(path: Path) -> ShardSummary | None:
    """The summary of the shard at `path`, from its footer alone; None where there is none."""
    try:
        metadata = pq.read_schema(opened(path)).metadata or {}
        return from_json(ShardSummary, json.loads(metadata[b"treehead.shard"]))
    except (OSError, pa.ArrowException, KeyError, ValueError):
        return None


def _fingerprint(table: Json, items: pd.DataFrame) -> str:
    listing = items[list(LISTED)].to_csv(index=False)
    return digest({"format": FORMAT, "table": table, "items": listing})


def _kinds(spec: TableSpec) -> dict[str, Any]:
    """The columns of a shard, in order."""
    item = pa.field("item", pa.float16(), nullable=False)
    return {
        "key": pa.string(),
        "split": pa.string(),
        "label": pa.int32(),
        "group": pa.string(),
        "stamp": pa.string(),
        **IMAGE_COLUMNS,
        "features": pa.list_(item, spec.dim),
    }


def _schema(spec: TableSpec, summary: ShardSummary) -> pa.Schema:
    metadata: dict[bytes | str, bytes | str] = {
        "treehead": json.dumps(spec.about_shards()),
        "treehead.shard": json.dumps(asdict(summary)),
    }
    gaps = ("group",) if spec.classes else ("group", "label")
    fields = [pa.field(name, kind, nullable=name in gaps) for name, kind in _kinds(spec).items()]
    return pa.schema(fields, metadata=metadata)
