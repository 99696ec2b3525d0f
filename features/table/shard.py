"""One Parquet file of a feature table: which images it holds, its schema, and how a finished one is told."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from features.looks import LOOKS
from features.sources.source import UNLABELLED
from features.storage import digest, from_json, replacing
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
}
"""What each row tells of its image besides the features: of its file, its size in pixels, and how it looks."""


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
        if size == MOST_IMAGES or (size >= LEAST_IMAGES and _ends_shard(key)):
            cuts.append(row)
    if cuts[-1] < len(items):
        cuts.append(len(items))
    return [items.iloc[start:end] for start, end in pairwise(cuts)]


def name_shards(spec: TableSpec, parts: Sequence[pd.DataFrame]) -> list[Shard]:
    """The shards of a table, in order."""
    return [
        Shard(name=f"part-{number:05d}.parquet", items=items, fingerprint=_fingerprint(spec, items))
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

    `images` tells by their row in `shard.items` what of a table's columns the images alone decide, see IMAGE_COLUMNS.

    The shard carries its part of the ledger in its metadata, so that a finished shard need never be looked at again.
    """
    rows = shard.items.loc[images.index].join(images)
    counts = {str(name): int(count) for name, count in rows["split"].value_counts().items()}
    summary = ShardSummary(fingerprint=shard.fingerprint, rows=counts, errors=errors)
    schema = _schema(spec, summary)
    values = pa.array(features.reshape(-1), type=pa.float16())
    columns = rows.assign(label=rows["label"].astype(object).where(rows["label"] != UNLABELLED, None))
    arrays = [pa.array(columns[field.name].tolist(), type=field.type) for field in list(schema)[:-1]]
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
    return summary


def read_summary(path: Path) -> ShardSummary | None:
    """The summary of the shard at `path`, from its footer alone; None where there is none."""
    try:
        metadata = pq.read_schema(path.absolute()).metadata or {}
        return from_json(ShardSummary, json.loads(metadata[b"treehead.shard"]))
    except (OSError, pa.ArrowException, KeyError, ValueError):
        return None


def _ends_shard(key: str) -> bool:
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") % LIKELY_IMAGES == 0


def _fingerprint(spec: TableSpec, items: pd.DataFrame) -> str:
    listing = items[["key", "split", "label", "stamp"]].to_csv(index=False)
    return digest({"format": FORMAT, "table": spec.without_source(), "items": listing})


def _schema(spec: TableSpec, summary: ShardSummary) -> pa.Schema:
    item = pa.field("item", pa.float16(), nullable=False)
    kinds = {
        "key": pa.string(),
        "split": pa.string(),
        "label": pa.int32(),
        **IMAGE_COLUMNS,
        "features": pa.list_(item, spec.dim),
    }
    metadata: dict[bytes | str, bytes | str] = {
        "treehead": json.dumps(spec.about_shards()),
        "treehead.shard": json.dumps(asdict(summary)),
    }
    unlabelled = () if spec.classes else ("label",)
    fields = [pa.field(name, kind, nullable=name in unlabelled) for name, kind in kinds.items()]
    return pa.schema(fields, metadata=metadata)
