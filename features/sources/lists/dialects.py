"""Lists as people have them, in text: any usual encoding, delimiter and line end, read as one table of text."""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections import Counter
from pathlib import Path

import pandas as pd

from features.errors import SourceError, first_line

DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars", " ": "blanks"}
"""What may stand between fields, and how it is said; blanks only where there is nothing else."""

csv.field_size_limit(2**30)  # outlines and masks in a column that is not asked for may be long

_DECLARED = re.compile(r'"?sep=([,;\t|])"?(?:\r\n|\r|\n)', re.IGNORECASE)


def unreadable(path: Path, why: str) -> SourceError:
    """The error for a file that is no list."""
    return SourceError(f"cannot read {path} ({why}): expected a CSV or Parquet file of path,label[,split]")


def read_text(path: Path) -> tuple[pd.DataFrame, list[str]]:
    """A list's rows of text, missing fields as None, and a word or two for each thing that was not as expected.

    Raises SourceError for what is no text, damaged or ragged.
    """
    try:
        text, encoding = _decoded(path.read_bytes())
        declared = _DECLARED.match(text)
        text = text[declared.end() :] if declared else text.lstrip("\r\n")
        delimiter = declared[1] if declared else _delimiter(re.split("[\r\n]", text, maxsplit=1)[0])
        lines = io.StringIO(text, newline="")
        fields = csv.reader(lines, delimiter=delimiter, skipinitialspace=True, strict=True)
        rows = _table(list(filter(any, fields)))
    except UnicodeDecodeError as error:
        raise unreadable(path, "neither UTF-8, UTF-16 nor cp1252 text") from error
    except csv.Error as error:
        raise unreadable(path, f"its quotes do not fit, {error}") from error
    except (OSError, ValueError) as error:
        raise unreadable(path, first_line(error)) from error
    said = [DELIMITERS[delimiter]] if delimiter != "," else []
    return rows, said + ([encoding] if encoding else [])


def read_lines(path: Path) -> list[str]:
    """A text's lines that are not empty; raises OSError for what cannot be read, ValueError for what is no text."""
    return list(filter(None, re.split("\r\n|\r|\n", _decoded(path.read_bytes())[0])))


def _decoded(data: bytes) -> tuple[str, str]:
    """A file's text without a mark, and its encoding where it is not UTF-8; raises ValueError for what is no text."""
    codec = _utf16(data)
    data = (data.decode(codec).encode() if codec else data).removeprefix(codecs.BOM_UTF8)
    if b"\0" in data:
        row = data.count(b"\n", 0, data.index(b"\0"))
        raise ValueError(f"NUL bytes in row {row}, as a copy that was cut off or another kind of file has them")
    try:
        return data.decode(), "UTF-16" if codec else ""
    except UnicodeDecodeError:
        return data.decode("cp1252"), "cp1252"


def _utf16(data: bytes) -> str:
    """Which UTF-16 it is, by its mark, or by every other byte of a header in ASCII being 0; empty where it is none."""
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    zeros = {codec: data[at:32:2] for codec, at in (("utf-16-be", 0), ("utf-16-le", 1))}
    return next((codec for codec, signs in zeros.items() if signs and not any(signs)), "")


def _delimiter(header: str) -> str:
    """What the header has most fields with; of equals the first."""
    counts = {each: sum(map(len, csv.reader([header], delimiter=each, skipinitialspace=True))) for each in DELIMITERS}
    blanks = counts.pop(" ")
    best = max(counts, key=lambda delimiter: counts[delimiter])
    return " " if counts[best] == 1 and blanks > 1 else best


def _table(rows: list[list[str]]) -> pd.DataFrame:
    """The rows under the first, which names the columns; raises ValueError for a row with more fields than that."""
    if not rows:
        raise ValueError("it is empty")
    columns = [field.strip() or f"[{at}]" for at, field in enumerate(rows[0])]
    twice = [column for column, count in Counter(columns).items() if count > 1]
    if twice:
        raise ValueError(f"several columns are called {twice[0]!r}")
    for number, row in enumerate(rows[1:], start=1):
        if any(row[len(columns) :]):  # but for delimiters at its end
            raise ValueError(f"row {number} has more fields than the header, {len(columns)}")
    padding = [""] * len(columns)
    filled = [[field or None for field in (row + padding)[: len(columns)]] for row in rows[1:]]
    table = pd.DataFrame(filled, columns=pd.Index(columns, dtype=object), dtype=object)
    # A column without a name is left out where it is empty or, as pandas writes its index, the first.
    unnamed = [name for at, name in enumerate(columns) if name == f"[{at}]" and (at == 0 or table[name].isna().all())]
    return table.drop(columns=unnamed)
