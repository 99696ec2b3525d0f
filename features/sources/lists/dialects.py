"""Lists as people have them, in text: any usual encoding, delimiter and line end, read as one table of text."""

from __future__ import annotations

import codecs
import csv
import io
import re
import warnings
from collections import Counter
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
        rows = _named(_parse(body, delimiter, _columns(header, delimiter)))
    except (OSError, ValueError, csv.Error, pd.errors.ParserWarning) as error:  # pandas' parser errors are ValueErrors
        raise unreadable(path, _in_words(error)) from error
    said = [DELIMITERS[delimiter]] if delimiter != "," else []
    return ListTable(rows=rows, said=said + ([encoding] if encoding else []))


def _as_utf8(data: bytes) -> tuple[bytes, str]:
    """A text file's bytes as UTF-8 without a mark, and its encoding where it is another; raises ValueError."""
    encoding = ""
    if codec := _utf16(data):
        data, encoding = data.decode(codec).encode(), "UTF-16"
    data = data.removeprefix(codecs.BOM_UTF8)
    if b"\0" in data:
        row = data.count(b"\n", 0, data.index(b"\0"))
        raise ValueError(f"NUL bytes in row {row}, as a copy that was cut off or another kind of file has them")
    try:
        data.decode()
    except UnicodeDecodeError:
        return data.decode("cp1252").encode(), "cp1252"
    return data, encoding


def _utf16(data: bytes) -> str:
    """Which UTF-16 it is, by its mark, or by every other byte of a header in ASCII being 0; empty where it is none."""
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    zeros = {codec: data[at:32:2] for codec, at in (("utf-16-be", 0), ("utf-16-le", 1))}
    return next((codec for codec, signs in zeros.items() if signs and not any(signs)), "")


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


def _columns(header: str, delimiter: str) -> list[str]:
    """The columns' names; those without one have their place in brackets. Raises ValueError for one that is twice."""
    columns = [field.strip() or f"[{at}]" for at, field in enumerate(_fields(header, delimiter))]
    twice = [column for column, count in Counter(columns).items() if count > 1]
    if twice:
        raise ValueError(f"several columns are called {twice[0]!r}")
    return columns


def _parse(data: bytes, delimiter: str, columns: list[str]) -> pd.DataFrame:
    """The rows under the header; raises ValueError for one with more fields, but for a delimiter at its end."""
    start = io.StringIO(data[:_HEAD].decode(errors="ignore"), newline=None)
    first = next((line for line in start if line.strip()), "").rstrip("\n")
    width = max(len(columns) + 1, len(_fields(first, delimiter)) if first else 0)
    header = delimiter.join(map(str, range(width)))
    with warnings.catch_warnings():
        warnings.simplefilter("error", pd.errors.ParserWarning)  # rows with more fields than the header
        rows = pd.read_csv(
            io.BytesIO(f"{header}\n".encode() + data),
            sep=r"\s+" if delimiter == " " else delimiter,
            dtype=str,
            keep_default_na=False,
            na_values=[""],
            index_col=False,
            skipinitialspace=f"{delimiter} ".encode() in data[:_HEAD],
        )
    beyond = rows.iloc[:, len(columns) :].notna().any(axis=1)
    if beyond.any():
        raise ValueError(f"row {int(beyond.argmax()) + 1} has more fields than the header, {len(columns)}")
    return rows.iloc[:, : len(columns)].set_axis(pd.Index(columns, dtype=object), axis=1)


def _named(rows: pd.DataFrame) -> pd.DataFrame:
    """Without columns that have no name, where they are empty or, as pandas writes them, the first."""
    left_out = [
        name for at, name in enumerate(rows.columns) if name == f"[{at}]" and (at == 0 or rows[name].isna().all())
    ]
    return rows.drop(columns=left_out)


def _in_words(error: Exception) -> str:
    if isinstance(error, UnicodeDecodeError):
        return "neither UTF-8, UTF-16 nor cp1252 text"
    if isinstance(error, pd.errors.ParserWarning):
        return "rows have more fields than the header"
    found = _TOO_MANY.search(str(error))
    return f"line {found[1]} has {found[2]} fields, more than the header" if found else first_line(error)
