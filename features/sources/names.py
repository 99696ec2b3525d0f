"""Class names as they are meant: blanks and Unicode forms make no other class, and what looks alike is said."""

from __future__ import annotations

import logging
import unicodedata
from collections import defaultdict
from collections.abc import Iterable

from features.errors import SourceError, some

logger = logging.getLogger(__name__)

UNSEEN = "\0\u200b\u200c\u200d\u200e\u200f\u2060\ufeff"
"""Signs without width or ink that copied text has at its ends; blanks are cut off as well."""

LOOK_ALIKES = str.maketrans(
    "\u0430\u0432\u0435\u043a\u043c\u043d\u043e\u0440\u0441\u0442\u0443\u0445\u0455\u0456\u0458"  # Cyrillic
    "\u03b1\u03b5\u03b9\u03ba\u03bd\u03bf\u03c1\u03c4\u03c5\u03c7",  # Greek
    "abekmhopctyxsijaeikvoptux",
)
"""Small letters of other scripts that are drawn like Latin ones, or whose capitals are."""


def clean_names(names: list[str], where: str) -> list[str]:
    """Each name without blanks at its ends, its inner runs of blanks as one, in NFC.

    Says which names become one by that, and which stay apart but look alike. Raises SourceError where nothing is left.

    >>> clean_names(["cat", "black  cat", "caf\u0065\u0301"], "list.csv")
    ['cat', 'black cat', 'café']
    """
    clean = {name: _clean(name) for name in set(names)}
    empty = [row for row, name in enumerate(names, start=1) if not clean[name]] if "" in clean.values() else []
    if empty:
        raise SourceError(
            f"{where} has no label in {len(empty)} of {len(names)} rows (first: row {empty[0]}): "
            "fill them in or remove the rows"
        )
    joined, alike = _groups(clean, clean), _groups(set(clean.values()), {name: _drawn(name) for name in clean.values()})
    if joined:
        logger.warning("%s: %s: blanks and Unicode forms are no difference", where, _listed(joined, "one class"))
    if alike:
        logger.warning("%s: %s: rename one if they mean the same", where, _listed(alike, "two classes that look alike"))
    return [clean[name] for name in names]


def _clean(name: str) -> str:
    text = " ".join(name.split())
    while text != (shorter := text.strip(UNSEEN).strip()):
        text = shorter
    return unicodedata.normalize("NFC", text)


def _drawn(name: str) -> str:
    """What is the same for names that look alike: Cat and cat, Latin and Cyrillic a, full-width letters."""
    return unicodedata.normalize("NFKC", name).casefold().translate(LOOK_ALIKES)


def _groups(names: Iterable[str], key: dict[str, str]) -> list[list[str]]:
    """Those of `names` that have one and the same key, where they are several, in order."""
    groups: dict[str, list[str]] = defaultdict(list)
    for name in sorted(names):
        groups[key[name]].append(name)
    return [group for group in groups.values() if len(group) > 1]


def _listed(groups: list[list[str]], what: str) -> str:
    """`'Cat' and 'cat' are one class`, for some of `groups`; as escapes where they differ by more than capitals."""
    quoted = [map(repr if len({name.casefold() for name in group}) == 1 else ascii, group) for group in groups]
    return some([f"{' and '.join(names)} are {what}" for names in quoted])
