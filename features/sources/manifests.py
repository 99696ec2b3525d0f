"""A CSV or Parquet file of `path,label[,split]`; paths are relative to it, or absolute."""

from __future__ import annotations

import warnings
from pathlib import Path

import pandas as pd
import pyarrow as pa

from features.errors import SourceError, first_line
from features.sources.files import file_stamp, read_file
from features.sources.options import SourceOptions
from features.sources.source import SPLIT_ALIASES, OnListed, Source, listing, name_classes


def open_manifest(path: Path, asked: SourceOptions, on_listed: OnListed) -> Source:
    """List the images that the manifest names; one that is absent is counted when it is read.

    Raises SourceError for a manifest that cannot be read, lacks a column, or lacks a label or a split in some row.
    """
    table = _read(path)
    missing = {"path", "label"} - set(table.columns)
    if missing:
        found = ", ".join(map(str, table.columns)) or "none"
        raise SourceError(f"{path} has the columns {found}: expected path, label and perhaps split")
    for column in table.columns.intersection(["path", "label", "split"]):
        _refuse_gaps(path, table[column])
    keys = [Path(entry).as_posix() for entry in table["path"].astype(str)]
    files = [path.parent / key for key in keys]
    classes, labels = name_classes(table["label"].astype(str).tolist())
    items = listing(keys, _splits(path, table), labels, [file_stamp(file) for file in files])
    return Source(name=path.stem, classes=classes, items=items, read=lambda row: read_file(files[row]))


def _read(path: Path) -> pd.DataFrame:
    try:
        if path.suffix == ".parquet":
            return pd.read_parquet(path).reset_index(drop=True)
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)  # rows with more fields than the header
            return pd.read_csv(
                path, dtype=str, keep_default_na=False, na_values=[""], index_col=False, compression=None
            )
    except (
        OSError,
        pd.errors.ParserWarning,
        ValueError,
        pa.ArrowException,
    ) as error:  # pandas' parser errors are ValueErrors
        raise SourceError(
            f"cannot read {path} ({first_line(error)}): expected a CSV or Parquet file of path,label[,split]"
        ) from error


def _refuse_gaps(path: Path, column: pd.Series[str]) -> None:
    gaps = column.index[column.isna()]
    if len(gaps):
        raise SourceError(
            f"{path} has no {column.name} in {len(gaps)} of {len(column)} rows (first: row {gaps[0] + 1}): "
            "fill them in or remove the rows"
        )


def _splits(path: Path, table: pd.DataFrame) -> list[str]:
    if "split" not in table:
        return ["train"] * len(table)
    splits = table["split"].astype(str).str.strip().str.lower()
    unknown = splits[~splits.isin(list(SPLIT_ALIASES))]
    if not unknown.empty:
        raise SourceError(f"{path} has the split {unknown.iloc[0]!r}: expected train, validation or test")
    return splits.map(SPLIT_ALIASES).tolist()
