"""Lists as people have them, in text: any usual encoding, delimiter and line end, read as one table of text."""

from __future__ import annotations

import codecs
import csv
import io
import re
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from features.errors import SourceError, first_line

DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars", " ": "blanks"}
"""What may stand between fields, and how it is said; blanks only where there is nothing else."""

_HEAD = 1 << 16
_DECLARED = re.compile(rb'"?sep=([,;\t|])"?(?:\r\n|\r|\n)', re.IGNORECASE)
_TOO_MANY = re.compile(r"in line (\d+), saw (\d+)")


@dataclass(frozen=True, kw_only=True)
class ListTable:
    """A list's rows, and `said`: what about it was not as expected, a word or two each."""

    rows: pd.DataFrame
    said: list[str]


def unreadable(path: Path, why: str) -> SourceError:
    """The error for a file that is no list."""
    return SourceError(f"cannot read {path} ({why}): expected a CSV or Parquet file of path,label[,split]")


def read_text(path: Path) -> ListTable:
    """Read a list of text; missing fields are NaN. Raises SourceError for what is no text, damaged or ragged."""
    try:
        data, encoding = _as_utf8(path.read_bytes())
        declared = _DECLARED.match(data)
        header, body = _header(data[declared.end() :] if declared else data)
        delimiter = declared[1].decode() if declared else _delimiter(header)
        columns = [field.strip() for field in _fields(header, delimiter)]
        rows = _parse(body, delimiter, len(columns))
    except (OSError, ValueError, csv.Error) as error:  # pandas' parser errors are ValueErrors
        raise unreadable(path, _in_words(error)) from error
    rows.columns = pd.Index(columns, dtype=object)
    named = rows.loc[:, [bool(column) or bool(rows.iloc[:, at].notna().any()) for at, column in enumerate(columns)]]
    said = [DELIMITERS[delimiter]] if delimiter != "," else []
    return ListTable(rows=named, said=said + ([encoding] if encoding else []))


def _as_utf8(data: bytes) -> tuple[bytes, str]:
    """A text file's bytes as UTF-8 without a mark, and its encoding where it is another; raises ValueError."""
    encoding = ""
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        data, encoding = data.decode("utf-16").encode(), "UTF-16"
    data = data.removeprefix(codecs.BOM_UTF8)
    if b"\0" in data:
        row = data.count(b"\n", 0, data.index(b"\0"))
        raise ValueError(f"NUL bytes in row {row}, as a copy that was cut off or another kind of file has them")
    try:
        data.decode()
    except UnicodeDecodeError:
        return data.decode("cp1252").encode(), "cp1252"
    return data, encoding


def _header(data: bytes) -> tuple[str, bytes]:
    """The first line that is not empty, and what follows; raises ValueError where there is none."""
    header, end, body = data.lstrip(b"\r\n").partition(b"\n")
    if b"\r" in header.rstrip(b"\r"):  # line ends of old Macs
        header, _, rest = header.partition(b"\r")
        body = rest + end + body
    if not header.strip():
        raise ValueError("it is empty")
    return header.decode(), body


def _delimiter(header: str) -> str:
    """What the header has most fields with; of equals the first."""
    counts = {delimiter: len(_fields(header, delimiter)) for delimiter in DELIMITERS if delimiter != " "}
    best = max(counts, key=lambda delimiter: counts[delimiter])
    return " " if counts[best] == 1 and len(header.split()) > 1 else best


def _fields(line: str, delimiter: str) -> list[str]:
    return next(csv.reader([line], delimiter=delimiter, skipinitialspace=True))


def _parse(data: bytes, delimiter: str, width: int) -> pd.DataFrame:
    """The rows under the header, `width` columns; a delimiter at the end of each row is no column."""
    header = delimiter.join(map(str, range(width + 1)))
    rows = pd.read_csv(
        io.BytesIO(f"{header}\n".encode() + data),
        sep=r"\s+" if delimiter == " " else delimiter,
        dtype=str,
        keep_default_na=False,
        na_values=[""],
        index_col=False,
        skipinitialspace=f"{delimiter} ".encode() in data[:_HEAD],
    )
    beyond = rows.index[rows[str(width)].notna()]
    if len(beyond):
        raise ValueError(f"row {beyond[0] + 1} has {width + 1} fields, the header {width}")
    return rows.drop(columns=str(width))


def _in_words(error: Exception) -> str:
    if isinstance(error, UnicodeDecodeError):
        return "neither UTF-8, UTF-16 nor cp1252 text"
    found = _TOO_MANY.search(str(error))
    return f"line {found[1]} has {found[2]} fields, more than the header" if found else first_line(error)
