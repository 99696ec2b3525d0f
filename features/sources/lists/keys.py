"""A file that names images by their keys: a column of a list, as `treehead inspect` writes it, or one key a line."""

from __future__ import annotations

import re
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from features.errors import SourceError, first_line
from features.sources.lists.dialects import read_lines, read_text
from features.stores import opened

COLUMN = "key"

_NAMED = re.compile(rf'(.*[,;\t|"])?{COLUMN}([,;\t|"].*)?')


def read_keys(path: Path) -> set[str]:
    """The keys that a file names, each once; raises SourceError where it cannot be read.

    A CSV or Parquet file has them in its column `key`; a text without such a column is one key a line.
    """
    try:
        if path.suffix.lower() in (".parquet", ".pq"):
            found = pq.read_table(opened(path), columns=[COLUMN])[COLUMN].drop_null()
            return set(map(str, found.to_pylist()))
        lines = read_lines(path)
        if not _NAMED.fullmatch(next(iter(lines), "").strip()):
            return set(lines)
        rows, _ = read_text(path)
    except (OSError, ValueError, KeyError, pa.ArrowException, SourceError) as error:
        why = first_line(error.__cause__ or error)
        raise SourceError(
            f"`exclude={path}` cannot be read ({why}): expected a CSV or Parquet file with the column "
            f"{COLUMN!r}, or one key a line"
        ) from error
    return set(rows[COLUMN].dropna()) if COLUMN in rows else set(lines)
