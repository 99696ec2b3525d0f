"""Which columns of a list, or of Parquet files, hold what, as a person says it."""

from __future__ import annotations

from features.errors import SourceError

ROLES = ("path", "label", "split")
"""What a column may hold; `path` is also the image itself, where the images lie in the file."""


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
