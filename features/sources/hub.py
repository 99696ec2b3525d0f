"""A folder of image Parquet files in the layout of the Hugging Face hub: `image: struct<bytes, path>` and `label`.

The split is read from each file's name, the class names from the schema's metadata.
"""

from __future__ import annotations

import json
import re
from bisect import bisect_right
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from pathlib import Path
from threading import Lock
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from features.errors import SourceError, first_line
from features.sources.files import file_stamp
from features.sources.options import SourceOptions
from features.sources.source import SPLIT_ALIASES, OnListed, Payload, Source, listing, name_classes


def hub_files(root: Path) -> list[Path]:
    """The Parquet files of such a folder, or none: directly in it, or in its `data/`."""
    return sorted(root.glob("*.parquet")) or sorted(root.glob("data/*.parquet"))


def open_hub(root: Path, asked: SourceOptions, on_listed: OnListed) -> Source:
    """List the rows of every file.

    Raises SourceError for files of another layout or with other class names than the first, or rows without a label.
    """
    files = [_open_file(path) for path in hub_files(root)]
    strangers = [file.path for file in files if file.classes != files[0].classes]
    if strangers:
        raise SourceError(
            f"{strangers[0]} names other classes than {files[0].path}: expected one set of images in {root}"
        )
    names = [name for file in files for name in file.labels]
    classes, labels = _number(files[0].classes, names)
    items = listing(
        [f"{file.path.relative_to(root).as_posix()}/{row:07d}" for file in files for row in range(len(file.labels))],
        [file.split for file in files for _ in file.labels],
        labels,
        [file.stamp for file in files for _ in file.labels],
    )
    return Source(name=root.resolve().name, classes=classes, items=items, read=_HubReader(files).read)


@dataclass(frozen=True, kw_only=True)
class _HubFile:
    """One file: each row's class by name, the class names that the schema gives, the rows of each row group."""

    path: Path
    split: str
    stamp: str
    labels: list[str]
    classes: list[str]
    group_rows: list[int]


class _HubReader:
    """Reads one image by its row number over all files, holding the last few row groups."""

    def __init__(self, files: list[_HubFile]) -> None:
        self._groups = [(file.path, group) for file in files for group in range(len(file.group_rows))]
        self._starts = [0, *accumulate(rows for file in files for rows in file.group_rows)]
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
        path, group = self._groups[number]
        try:
            with pq.ParquetFile(path) as file:
                images: Any = file.read_row_group(group, columns=["image"])["image"].combine_chunks()
        except pa.ArrowException as error:
            raise OSError(f"row group {group} of {path.name} is damaged ({first_line(error)})") from error
        return images.field("bytes")


def _open_file(path: Path) -> _HubFile:
    try:
        with pq.ParquetFile(path) as file:
            schema, metadata = file.schema_arrow, file.metadata
            if not {"image", "label"} <= set(schema.names) or not _has_bytes(schema.field("image").type):
                found = ", ".join(schema.names)
                raise SourceError(f"{path} has the columns {found}: expected image (bytes, path) and label")
            column = file.read(columns=["label"])["label"].to_pandas()
    except (OSError, pa.ArrowException) as error:
        raise SourceError(f"cannot read {path} ({first_line(error)}): fetch the file again") from error
    classes = _class_names(path, schema)
    return _HubFile(
        path=path,
        split=_split(path),
        stamp=file_stamp(path),
        labels=_name_labels(path, column, classes),
        classes=classes,
        group_rows=[metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)],
    )


def _name_labels(path: Path, column: pd.Series, classes: list[str]) -> list[str]:
    """Each row's class by name; raises SourceError for rows without a label, or with one that has no name."""
    numbered = pd.api.types.is_numeric_dtype(column)
    unlabelled = column.isna() | (column < 0 if numbered else False)
    if unlabelled.any():
        count = f"{unlabelled.sum()} of {len(column)} rows"
        raise SourceError(f"{path} has no label in {count}: remove the file or label its rows")
    if not (numbered and classes):
        return column.astype(str).tolist()
    if len(column) and column.max() >= len(classes):
        raise SourceError(
            f"{path} has the label {column.max()}, but names {len(classes)} classes: fetch the file again"
        )
    return [classes[label] for label in column.astype(int)]


def _has_bytes(kind: pa.DataType) -> bool:
    position = kind.get_field_index("bytes") if pa.types.is_struct(kind) else -1
    return position >= 0 and kind.field(position).type in (pa.binary(), pa.large_binary())


def _class_names(path: Path, schema: pa.Schema) -> list[str]:
    """The label's class names as the schema's metadata gives them, or none; one name given twice gets its number."""
    try:
        metadata = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
        names = list(metadata.get("info", {}).get("features", {}).get("label", {}).get("names") or [])
    except (ValueError, AttributeError, TypeError) as error:
        raise SourceError(f"{path} has metadata of another layout ({first_line(error)}): expected the hub's") from error
    return [f"{name} ({number})" if names.count(name) > 1 else str(name) for number, name in enumerate(names)]


def _number(known: list[str], names: list[str]) -> tuple[tuple[str, ...], list[int]]:
    """Number the classes in the schema's order where it gives one, else in sorted order."""
    if not set(names) <= set(known):
        return name_classes(names)
    index = {name: number for number, name in enumerate(known)}
    return tuple(known), [index[name] for name in names]


def _split(path: Path) -> str:
    word = re.split(r"[-_.]", path.name.lower())[0]
    if word not in SPLIT_ALIASES:
        raise SourceError(f"{path} does not begin with its split: expected a name such as train-00000-of-00004.parquet")
    return SPLIT_ALIASES[word]
