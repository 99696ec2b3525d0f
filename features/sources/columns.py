"""Which columns of a list, or of Parquet files, hold what: as a person says it, or by their usual names."""

from __future__ import annotations

import re
from collections.abc import Sequence

from features.errors import SourceError

ROLES = ("path", "label", "split")
"""What a column may hold; `path` is also the image itself, where the images lie in the file."""

USUAL = {
    "path": re.compile("file(s|paths?|names?)?|fname|(image|img)(s|path|file|name|id)?|paths|id"),
    "label": re.compile("labels|class|classname|target|category"),
    "split": re.compile("(sub|data)?set|fold|isvalid"),
}
"""What lists call their columns, without capitals, blanks and dashes, where they do not call them by their role."""


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


def find_columns(where: str, columns: Sequence[str], asked: dict[str, str]) -> dict[str, str]:
    """The column of each role that can be told by name, those `asked` for first.

    Raises SourceError where a column asked for is absent, and where a role may be that of several.
    """
    absent = [column for column in asked.values() if column not in columns]
    if absent:
        raise SourceError(f"{where} has the columns {_listed(columns)}: expected {absent[0]!r}, as `columns` says")
    left = [column for column in columns if column not in asked.values()]
    return {role: column for role in ROLES if (column := asked.get(role) or _by_name(where, left, role))}


def described(found: dict[str, str]) -> list[str]:
    """Which column has a role without being called so, as `path=id`."""
    return [f"{role}={column}" for role, column in found.items() if role != column]


def unclear(where: str, columns: Sequence[str], role: str) -> SourceError:
    """The error for a list in which several columns, or none, may be that of a role."""
    return SourceError(
        f"{where} has the columns {_listed(columns)}: expected path, label and perhaps split, say which is the {role} "
        f"with `columns={role}=…`"
    )


def _by_name(where: str, columns: Sequence[str], role: str) -> str | None:
    called = [column for column in columns if plain_name(column) == role]
    called = called or [column for column in columns if USUAL[role].fullmatch(plain_name(column))]
    if len(called) > 1:
        raise unclear(where, called, role)
    return called[0] if called else None


def plain_name(column: str) -> str:
    """A column's name without capitals, blanks and dashes."""
    return "".join(sign for sign in column.lower() if sign not in " _-")


def _listed(columns: Sequence[str]) -> str:
    return ", ".join(columns[:20]) + (" …" if len(columns) > 20 else "") if columns else "none"
