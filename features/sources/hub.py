"""A folder of image Parquet files in the layout of the Hugging Face hub: `image: struct<bytes, path>` and `label`.

The split is read from each file's name, the class names from the schema's metadata.
"""

from __future__ import annotations

import json
import re
from bisect import bisect_right
from functools import lru_cache
from itertools import accumulate
from pathlib import Path
from threading import Lock
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from features.errors import SourceError
from features.sources.base import SPLIT_ALIASES, Payload, Source, check_labelled, listing, name_classes
from features.sources.folders import file_stamp


def hub_files(root: Path) -> list[Path]:
    """The Parquet files of such a folder, or none: directly in it, or in its `data/`."""
    return sorted(root.glob("*.parquet")) or sorted(root.glob("data/*.parquet"))


def open_hub(root: Path) -> Source:
    """List the rows of every file. Raises SourceError for a file of another layout, or a row without a label."""
    keys: list[str] = []
    splits: list[str] = []
    names: list[str] = []
    stamps: list[str] = []
    files = hub_files(root)
    for path in files:
        labels = _labels(path)
        names += labels
        keys += [f"{path.relative_to(root).as_posix()}/{row:07d}" for row in range(len(labels))]
        splits += [_split(path)] * len(labels)
        stamps += [file_stamp(path)] * len(labels)
    classes, numbers = _number(files[0], names)
    items = listing(keys, splits, numbers, stamps)
    check_labelled(str(root), items, classes)
    return Source(name=root.resolve().name, classes=classes, items=items, read=_HubReader(files).read)


class _HubReader:
    """Reads one image by its row number over all files, holding the last few row groups."""

    def __init__(self, files: list[Path]) -> None:
        self._groups = [
            (path, group, pq.read_metadata(path).row_group(group).num_rows)
            for path in files
            for group in range(pq.read_metadata(path).num_row_groups)
        ]
        self._starts = [0, *accumulate(rows for _, _, rows in self._groups)]
        self._images = lru_cache(maxsize=4)(self._read_group)
        self._lock = Lock()  # else several threads would read the same row group at once

    def read(self, row: int) -> Payload:
        group = bisect_right(self._starts, row) - 1
        with self._lock:
            images = self._images(group)
        encoded = images[row - self._starts[group]].as_py()
        if encoded is None:
            raise OSError("the row holds no image bytes")
        return bytes(encoded)

    def _read_group(self, number: int) -> Any:
        path, group, _ = self._groups[number]
        with pq.ParquetFile(path) as file:
            images: Any = file.read_row_group(group, columns=["image"])["image"].combine_chunks()
        return images.field("bytes")


def _labels(path: Path) -> list[str]:
    """Each row's class, by name where the schema names the classes."""
    try:
        with pq.ParquetFile(path) as file:
            schema = file.schema_arrow
            if not {"image", "label"} <= set(schema.names) or not _has_bytes(schema.field("image").type):
                raise SourceError(
                    f"{path} has the columns {', '.join(schema.names)}: expected image (bytes, path) and label"
                )
            column = file.read(columns=["label"])["label"].to_pylist()
    except (OSError, pa.ArrowException) as error:
        raise SourceError(f"cannot read {path} ({str(error).splitlines()[0]}): fetch the file again") from error
    known = class_names(schema)
    unlabelled = sum(label is None or (isinstance(label, int) and label < 0) for label in column)
    if unlabelled:
        raise SourceError(
            f"{path} has no label in {unlabelled} of {len(column)} rows: remove the file or label its rows"
        )
    return [known[label] if known and isinstance(label, int) else str(label) for label in column]


def _has_bytes(kind: pa.DataType) -> bool:
    return pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0


def class_names(schema: pa.Schema) -> list[str]:
    """The label's class names as the schema's metadata gives them, or none; one name given twice gets its number."""
    metadata = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
    names = metadata.get("info", {}).get("features", {}).get("label", {}).get("names", [])
    return [f"{name} ({number})" if names.count(name) > 1 else str(name) for number, name in enumerate(names)]


def _number(path: Path, names: list[str]) -> tuple[tuple[str, ...], list[int]]:
    """Number the classes in the schema's order where it gives one, else in sorted order."""
    known = class_names(pq.read_schema(path))
    if not known:
        return name_classes(names)
    index = {name: number for number, name in enumerate(known)}
    return tuple(known), [index[name] for name in names]


def _split(path: Path) -> str:
    word = re.split(r"[-_.]", path.name.lower())[0]
    if word not in SPLIT_ALIASES:
        raise SourceError(f"{path} does not begin with its split: expected a name such as train-00000-of-00004.parquet")
    return SPLIT_ALIASES[word]
