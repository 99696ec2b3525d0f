"""Which columns of a list, or of Parquet files, hold what: as a person says it, or by their usual names."""

from __future__ import annotations

import re
from collections.abc import Sequence

import pyarrow as pa

from features.errors import SourceError, some

ROLES = ("path", "label", "split")
"""What a column may hold; `path` is also the image itself, where the images lie in the file."""

USUAL = {
    "path": re.compile("file(s|paths?|names?)?|fname|(image|img)(s|path|file|name|id)?|paths|id"),
    "label": re.compile("(fine|coarse)?labels?|(class|label|category)(name|id)?|classes|targets?|categories|cls|y"),
    "split": re.compile("(sub|data)?set|k?fold|partition|is(valid|test|train)"),
}
"""What columns are called, without capitals, blanks and dashes, where they are not called by their role."""


def roles(columns: str) -> dict[str, str]:
    """The column of each role that `SourceOptions.columns` names; raises SourceError for what is no role=column.

    >>> roles("path=id,label=breed")
    {'path': 'id', 'label': 'breed'}
    >>> roles("")
    {}
    """
    pairs = [pair.partition("=") for pair in columns.split(",") if pair.strip()]
    found = {role.strip(): column.strip() for role, _, column in pairs}
    if len(found) < len(pairs) or not set(found) <= set(ROLES) or not all(found.values()):
        raise SourceError(f"`columns={columns}` is not understood: expected path=…,label=…,split=…, each once at most")
    return found


def roles_but_split(columns: str) -> dict[str, str]:
    """As `roles`, of images that lie in files whose names are the split; raises SourceError for a column of that."""
    found = roles(columns)
    if "split" in found:
        raise SourceError(
            f"`columns={columns}` names the column of the split, but of images in Parquet or tar files the file's name "
            "or its folder is the split: leave it out"
        )
    return found


def find_columns(where: str, columns: Sequence[str], asked: dict[str, str]) -> dict[str, str]:
    """The column of each role that is asked for or can be told by name; raises SourceError as `pick` does."""
    left = [column for column in columns if column not in asked.values()]
    found = {role: pick(where, columns, role, asked, *by_name(left, role)) for role in ROLES}
    return {role: column for role, column in found.items() if column}


def by_name(columns: Sequence[str], role: str) -> tuple[list[str], list[str]]:
    """The columns that are called as their role, and those that are called as it usually is."""
    names = {column: plain_name(column) for column in columns}
    usual = [column for column, name in names.items() if USUAL[role].fullmatch(name)]
    return [column for column, name in names.items() if name == role], usual


def pick(where: str, columns: Sequence[str], role: str, asked: dict[str, str], *choices: list[str]) -> str:
    """The column that is asked for, else the one of the first of `choices` that has any; empty where none has.

    Raises SourceError where the column asked for is absent, and for a choice of several.
    """
    if role in asked and asked[role] not in columns:
        raise SourceError(f"{where} has the columns {some(columns)}: expected {asked[role]!r}, as `columns` says")
    found = [asked[role]] if role in asked else next(filter(None, choices), [])
    if len(found) > 1:
        what = "image" if role == "path" else role
        raise SourceError(
            f"{where} has {some(found)}, each of which may be the {what}: give `columns={role}={found[0]}`"
        )
    return found[0] if found else ""


def check_group(where: str, columns: Sequence[str], group: str) -> None:
    """Raise SourceError unless the column that `SourceOptions.group` names, if any, is there."""
    if group and group not in columns:
        raise SourceError(f"{where} has the columns {', '.join(columns)}: expected {group!r}, as `group={group}` says")


def nested(kind: pa.DataType) -> str:
    """What a column of this type holds that is no single text or number: lists, records or bytes; else empty."""
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind):
        return "bytes"
    return "" if not pa.types.is_nested(kind) else "records" if pa.types.is_struct(kind) else "lists"


def refuse_nested(where: str, schema: pa.Schema, found: dict[str, str]) -> None:
    """Raise SourceError where the column of a role holds what is no single text or number."""
    for role, column in found.items():
        if what := nested(schema.field(column).type):
            raise SourceError(f"{where} has {what} in the column {column!r}: expected one {role} a row")


def plain_name(column: str) -> str:
    """A column's name without capitals, blanks and dashes."""
    return re.sub("[ _-]", "", column.lower())
