"""What could not be read: a Parquet file beside the shards, so that listed images = rows + errors, always."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from features.errors import SourceError, TableError, first_line
from features.storage import replacing
from features.stores import opened

LEDGER = "errors.parquet"

LedgerEntry = dict[str, str]
"""`key`, `reason` and `exception` of an image that has no features."""


def write_ledger(folder: Path, errors: list[LedgerEntry]) -> pd.DataFrame:
    """Write the ledger, also when it is empty; returns it as `FeatureTable.ledger` does."""
    schema = pa.schema([pa.field(name, pa.string(), nullable=False) for name in ("key", "reason", "exception")])
    table = pa.Table.from_pylist(errors, schema=schema)
    with replacing(folder / LEDGER) as scratch:
        pq.write_table(table, scratch, compression="zstd")
    return table.to_pandas()


def read_ledger(folder: Path) -> pd.DataFrame:
    """What `write_ledger` wrote; raises TableError where it is damaged."""
    with reading(folder / LEDGER):
        return pq.read_table(opened(folder / LEDGER)).to_pandas()


def refuse_many(ledger: pd.DataFrame, listed: int, max_bad: float, folder: Path) -> None:
    """Raise SourceError where more than the share `max_bad` of the images `listed` stand in `ledger`."""
    if len(ledger) > max_bad * listed:
        first = ledger.iloc[0]
        raise SourceError(
            f"{len(ledger)} of {listed} images could not be read, more than `max_bad={max_bad}` allows (first: "
            f"{first['key']}, {first['reason']}; all in {folder / LEDGER}): mend or remove them, or raise `max_bad`"
        )


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn what Parquet says of a damaged file into a TableError."""
    try:
        yield
    except (OSError, pa.ArrowException) as error:
        raise TableError(
            f"{path} is damaged ({first_line(error)}): delete it and manifest.json beside it, and run again"
        ) from error
