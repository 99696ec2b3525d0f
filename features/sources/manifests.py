"""A list of images, one a row: CSV and its kin, or Parquet, of `path,label[,split]`; paths are relative to it.

Which column is which, where that is not said, is found out here; `dialects` reads text, `values` classes and splits.
A list of keys is read here as well.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from features.errors import SourceError, first_line, some
from features.sources.columns import ROLES, check_group, find_columns, nested, refuse_nested, roles
from features.sources.files import IMAGE_SUFFIX, read_file
from features.sources.lists.dialects import read_lines, read_text, unreadable
from features.sources.lists.places import locate
from features.sources.lists.values import class_names, flagged, group_names, says_splits, split_names, texts
from features.sources.options import SourceOptions
from features.sources.source import UNLABELLED, OnListed, Source, listing, name_classes
from features.stores import opened

KEY = "key"
"""The column of images' keys, in what `treehead inspect` writes."""

_NAMES_KEY = re.compile(rf'(.*[,;\t|"])?{KEY}([,;\t|"].*)?')


def open_manifest(path: Path, asked: SourceOptions, on_listed: OnListed) -> Source:
    """List the images that the manifest names; one that is absent is counted when it is read.

    Raises SourceError for a manifest that cannot be read or understood, or lacks a label or a split in some row.
    """
    wanted = roles(asked.columns)
    packed = path.suffix.lower() in (".parquet", ".pq")
    group = asked.group_column
    rows, written = (_read_parquet(path, wanted, group), []) if packed else read_text(path)
    check_group(str(path), list(rows.columns), group)
    groups = group_names(rows.pop(group)) if group else None
    found = _find(path, rows, wanted)
    entries = texts(path, rows[found["path"]])
    classes, labels, how = _labels(path, rows, found)
    splits, folds = split_names(path, rows[found["split"]]) if "split" in found else (["train"] * len(rows), "")
    keys, stamps, located = locate(path, entries, on_listed)
    said = [*written, *_in_words(found, located), *filter(None, [how, folds])]
    return Source(
        name=path.stem,
        classes=classes,
        items=listing(keys, splits, labels, stamps, groups),
        read=lambda row: read_file(path.parent / keys[row]),
        layout=f"{path.name}: {', '.join(said)}, {len(classes)} classes" if said else "",
    )


def read_keys(path: Path) -> set[str]:
    """The keys that a file names, each once; raises SourceError where it cannot be read.

    A CSV or Parquet file has them in its column `key`; a text without such a column is one key a line.
    """
    try:
        if path.suffix.lower() in (".parquet", ".pq"):
            found = pq.read_table(opened(path), columns=[KEY])[KEY].drop_null()
            return set(map(str, found.to_pylist()))
        lines = read_lines(path)
        if not _NAMES_KEY.fullmatch(next(iter(lines), "").strip()):
            return set(lines)
        rows, _ = read_text(path)
    except (OSError, ValueError, KeyError, pa.ArrowException, SourceError) as error:
        why = first_line(error.__cause__ or error)
        raise SourceError(
            f"`exclude={path}` cannot be read ({why}): expected a CSV or Parquet file with the column "
            f"{KEY!r}, or one key a line"
        ) from error
    return set(rows[KEY].dropna()) if KEY in rows else set(lines)


def _find(path: Path, rows: pd.DataFrame, wanted: dict[str, str]) -> dict[str, str]:
    """The column of each role; a role without a usual name has the one column that is left."""
    columns = [str(column) for column in rows.columns]
    found = find_columns(str(path), columns, wanted)
    left = [column for column in columns if column not in found.values()]
    if "path" not in found:
        if any(IMAGE_SUFFIX.fullmatch(Path(column).suffix) for column in columns):
            line = ",".join(columns)
            raise SourceError(f"{path} has no header: its first line is {line!r}, expected path,label[,split]")
        paths = left if "label" in found else [column for column in left if _holds_paths(path, rows[column])]
        if len(paths) != 1:
            raise _unclear(path, columns, "path")
        found["path"] = paths[0]
        left.remove(paths[0])
    splits = [column for column in left if "split" not in found and says_splits(rows[column])]
    if len(splits) == 1 and len(left) > ("label" not in found):
        found["split"] = splits[0]
        left.remove(splits[0])
    if "label" not in found and len(left) == 1:
        found["label"] = left[0]
    return found


def _unclear(path: Path, columns: Sequence[str], role: str) -> SourceError:
    return SourceError(
        f"{path} has the columns {some(columns)}: expected path, label and perhaps split, say which is the {role} with "
        f"`columns={role}=…`"
    )


def _holds_paths(path: Path, column: pd.Series) -> bool:
    """Whether the first entry of a column is the name of an image that is there."""
    try:
        locate(path, column.dropna().head(1).astype(str).tolist() or [""], lambda _: None)
    except SourceError:
        return False
    return True


def _labels(path: Path, rows: pd.DataFrame, found: dict[str, str]) -> tuple[tuple[str, ...], list[int], str]:
    """The classes, each row's label, and how the list has them where that is not in one column."""
    left = [column for column in rows.columns if column not in found.values()]
    if "label" in found and rows[found["label"]].notna().any():
        return *name_classes(class_names(path, rows[found["label"]])), ""
    if "label" in found or not left or rows.empty:
        return (), [UNLABELLED] * len(rows), "no labels"
    if not (names := flagged(path, rows[left])):
        raise _unclear(path, list(rows.columns), "label")
    return *name_classes(names), "a column for each class"


def _in_words(found: dict[str, str], located: str) -> list[str]:
    """Which columns are not called by their role, and where the images were found if not as named."""
    said = {role: f"{role}={column}" for role, column in found.items() if role != column}
    if located:
        said["path"] = f"{said['path']} ({located})" if "path" in said else located
    return [said[role] for role in ROLES if role in said]


def _may_matter(kind: pa.DataType, named: bool) -> bool:
    return pa.types.is_string(kind) or pa.types.is_large_string(kind) if named else not nested(kind)


def _read_parquet(path: Path, wanted: dict[str, str], group: str) -> pd.DataFrame:
    """The columns that are needed, of a Parquet file; raises SourceError for one that is damaged."""
    try:
        with pq.ParquetFile(opened(path)) as file:
            schema = file.schema_arrow
            columns = [name for name in schema.names if not name.startswith("__index_level_")]
            check_group(str(path), columns, group)
            found = find_columns(str(path), [name for name in columns if name != group], wanted)
            found |= {"group": group} if group else {}
            refuse_nested(str(path), schema, found)
            named = {"path", "label"} <= set(found)  # then what else is text may be a split
            flat = [name for name in columns if name in found.values() or _may_matter(schema.field(name).type, named)]
            return file.read(columns=flat).to_pandas(ignore_metadata=True)
    except (OSError, ValueError, KeyError, pa.ArrowException) as error:
        raise unreadable(path, first_line(error)) from error
