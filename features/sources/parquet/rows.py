"""Images read from Parquet files by their row, however large the row groups are."""

from __future__ import annotations

import logging
import os
import tempfile
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from features.errors import first_line
from features.sources.files import read_file
from features.stores import is_remote, opened

logger = logging.getLogger(__name__)

IN_MEMORY = 64 << 20
"""Bytes of a row group's images that are held in memory; what is more goes to a temporary file."""

AT_ONCE = 16 << 20
"""Bytes of images, about, that are decoded at a time."""


@dataclass(frozen=True, kw_only=True)
class RowGroup:
    """A row group of a file: its rows, and how many bytes they are together, nearly all of them images."""

    path: Path
    number: int
    rows: int
    size: int
    column: str


class _Images:
    """The images of a row group one after another, and where each begins; of rows without bytes, their paths."""

    def __init__(self) -> None:
        self.file = tempfile.SpooledTemporaryFile(max_size=IN_MEMORY)  # noqa: SIM115 (closed when it is let go of)
        self.ends = [0]
        self.paths: dict[int, str | None] = {}

    def add(self, encoded: Any, path: str | None) -> None:
        """Put down the next row's image, an Arrow scalar of bytes."""
        if encoded.is_valid:
            self.file.write(encoded.as_buffer())
        else:
            self.paths[len(self.ends) - 1] = path
        self.ends.append(self.file.tell())

    def read(self, row: int) -> bytes:
        self.file.seek(self.ends[row])
        return self.file.read(self.ends[row + 1] - self.ends[row])


class RowReader:
    """Reads one image by its row number over all row groups.

    The last few row groups are held, each decoded once, slice by slice, so that rows may be asked for in any order.
    """

    def __init__(self, root: Path, groups: Sequence[RowGroup]) -> None:
        self._root = root
        self._groups = groups
        self._starts = [0, *accumulate(group.rows for group in groups)]
        self._images = lru_cache(maxsize=4)(self._read_group)
        self._damaged: dict[int, str] = {}
        self._lock = Lock()  # else several threads would read the same row group at once

    def __reduce__(self) -> tuple[type[RowReader], tuple[Path, Sequence[RowGroup]]]:
        return RowReader, (self._root, self._groups)

    def read(self, row: int) -> bytes:
        """The encoded image; raises OSError for one that is not there or in a damaged row group."""
        number = bisect_right(self._starts, row) - 1
        inside = row - self._starts[number]
        with self._lock:
            images = self._images(number)
            if inside not in images.paths:
                return images.read(inside)
        return self._read_beside(self._groups[number].path, images.paths[inside])

    def _read_group(self, number: int) -> _Images:
        group = self._groups[number]
        if number in self._damaged:
            raise OSError(self._damaged[number])
        images = _Images()
        try:
            for encoded, path in _rows(group):
                images.add(encoded, path)
        except (pa.ArrowException, OSError, ValueError, MemoryError) as error:
            reason = f"row group {group.number} of {group.path.name} is damaged ({first_line(error)})"
            logger.warning("%s: its %d images cannot be read", reason, group.rows)
            self._damaged[number] = reason
            raise OSError(reason) from error
        return images

    def _read_beside(self, file: Path, path: str | None) -> bytes:
        """The image that a row names instead of holding it: beside its file, or from the set's folder on."""
        if not path:
            raise OSError("the row holds no image bytes")
        if is_remote(file):
            raise OSError(f"the row names {path} instead of holding it, which is read on this machine alone")
        root = Path(os.path.normpath(self._root.absolute()))
        places = [Path(os.path.normpath(start / path)) for start in (file.parent.absolute(), root)]
        inside = [place for place in places if place.is_relative_to(root)]
        if not inside or Path(path).is_absolute():
            raise OSError(f"the row names {path}, which is outside of the set's folder")
        there = next((place for place in inside if place.exists()), None)
        if there is None:
            raise OSError(f"the row names {path}, which is not there")
        return read_file(there)


def _rows(group: RowGroup) -> Iterator[tuple[Any, str | None]]:
    """Each row's bytes, an Arrow scalar, and its path, where it has one."""
    at_once = int(np.clip(AT_ONCE * group.rows // max(group.size, 1), 1, max(group.rows, 1)))
    with pq.ParquetFile(opened(group.path), buffer_size=1 << 20, pre_buffer=is_remote(group.path)) as file:
        found = 0
        for batch in file.iter_batches(at_once, [group.number], [group.column], use_threads=False):
            found += len(batch)
            yield from zip(*_bytes_and_paths(batch.column(0)), strict=True)
    if found != group.rows:
        raise OSError(f"it holds {found} rows of {group.rows}")


def _bytes_and_paths(column: Any) -> tuple[Any, list[str | None]]:
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if not pa.types.is_struct(column.type):
        return column, [None] * len(column)
    fields = dict(zip((field.name for field in column.type), column.flatten(), strict=True))
    paths = fields["path"].to_pylist() if "path" in fields else [None] * len(column)
    return fields["bytes"], [path if isinstance(path, str) else None for path in paths]
