"""Where the images of a list are: as it names them, or without a suffix, with other capitals, in a folder beside it."""

from __future__ import annotations

import os
import re
import unicodedata
from collections import defaultdict
from collections.abc import Collection
from functools import cache
from itertools import product
from pathlib import Path, PurePosixPath

from features.errors import SourceError, some
from features.sources.files import ABSENT, IMAGE_SUFFIX, file_stamp
from features.sources.source import OnListed
from features.stores import inside, is_remote, keys_below

USUAL = ("", "images", "image", "imgs", "img", "train", "train_images", "data", "photos", "pictures", "jpg", "png")
"""Folders beside a list in which its images are looked for before all others; the first is the list's own."""

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
_TOLD_EVERY = 4096


def locate(path: Path, entries: list[str], on_listed: OnListed) -> tuple[list[str], list[str], str]:
    """Find what the list at `path` names: keys, relative to it, stamps, and what is said of those found elsewhere.

    What is in no place keeps its name, with the stamp ABSENT. Raises SourceError for addresses, names with NUL, one
    that fits several files, two of one file, or all absent.
    """
    if is_remote(path):
        entries = [entry.removeprefix(f"{path.parent}/") for entry in entries]
    _refuse_odd(path, entries)
    keys = [_tidy(entry) for entry in entries]
    stamps = _stamps(path.parent, keys, on_listed)
    lost = {row: _tidy(entries[row].strip().replace("\\", "/")) for row, stamp in enumerate(stamps) if stamp == ABSENT}
    places = _Places(path, lost.values())
    found = {row: place for row, name in lost.items() if (place := places.find(name))}
    moved = _stamps(path.parent, list(found.values()), lambda _: None)
    for (row, place), stamp in zip(found.items(), moved, strict=True):
        keys[row], stamps[row] = place, stamp
    if entries and all(stamp == ABSENT for stamp in stamps):
        raise SourceError(
            f"{path} lists {len(entries)} images, and none is there (first: {entries[0]!r}; looked for beside the "
            f"list{places.searched()}): expected paths relative to the list"
        )
    _refuse_twice(path, keys)
    return keys, stamps, places.said()


class _Places:
    """The files beside a list and in the folders there, by name with and without suffix; only those that are wanted."""

    def __init__(self, path: Path, wanted: Collection[str]) -> None:
        names = {name.rpartition("/")[2] for name in wanted}
        self._path = path
        self._names = names | set(map(_folded, names))
        beside = inside(path.parent)[0] if wanted else []
        self._folders = [name for name in beside if not name.startswith(".")]
        self._index = cache(self._read_index)
        self._found: set[tuple[str, str]] = set()

    def find(self, name: str) -> str:
        """Where the image of that name is, relative to the list; empty where it is not, SourceError for several."""
        head, _, last = name.rpartition("/")
        index, ways = self._index(head), product((last, _folded(last)), (True, False))
        found = next((index[way] for way in ways if way in index), [])
        if len(found) > 1:
            raise SourceError(
                f"{self._path} lists {name!r}, which may be {some(found)}: expected one, name it with folder and suffix"
            )
        for file in found:
            suffix = file.rpartition("/")[2][len(last) :]
            self._found.add((suffix, file[: len(file) - len(name + suffix)]))
        return "".join(found)

    def searched(self) -> str:
        """The folders that were looked through, as the end of a sentence."""
        return f" and in {some([f'{name}/' for name in self._folders])}" if self._folders else ""

    def said(self) -> str:
        """In a few words what was found elsewhere than named."""
        suffixes, folders = {suffix for suffix, _ in self._found}, {folder for _, folder in self._found}
        found = {"+": sorted(suffixes - {""}), "in": sorted(folders - {""})}
        words = [f"{word} {some(names)}" for word, names in found.items() if names]
        return " ".join(words) or ("paths mended (backslashes, blanks or capitals)" if self._found else "")

    def _read_index(self, head: str) -> dict[tuple[str, bool], list[str]]:
        """The files in the folder `head` of each place, by name and whether it is a usual place."""
        index: dict[tuple[str, bool], list[str]] = defaultdict(list)
        for place in ["", *self._folders]:
            folder = "/".join(part for part in (place, head) if part)
            for name in inside(self._path.parent / folder)[1]:
                stem, dot, suffix = name.rpartition(".")
                names = {name, stem} if IMAGE_SUFFIX.fullmatch(dot + suffix) else {name}
                for known in (names | set(map(_folded, names))) & self._names:
                    index[known, place.lower() in USUAL].append(f"{folder}/{name}" if folder else name)
        return index


def _refuse_odd(path: Path, entries: list[str]) -> None:
    for row, entry in enumerate(entries, start=1):
        if "://" in entry and _URL.match(entry):
            raise SourceError(f"{path} lists an address in row {row} ({entry}): download the images and list the files")
        if "\0" in entry:
            raise SourceError(f"{path} lists {entry!r} in row {row}, which no file can be called: mend or remove it")


def _refuse_twice(path: Path, keys: list[str]) -> None:
    """Raise SourceError for one file under two names: as a/b.png and as c/../a/b.png, or from the root."""
    odd = [key for key in keys if ".." in key or key.startswith("/")]
    base = os.path.abspath(str(path.parent))  # noqa: PTH100 links in it are kept
    known = dict(zip(keys, keys, strict=True)) if odd else {}
    for key in odd:
        plain = os.path.normpath(f"{base}/{key}" if not key.startswith("/") else key).removeprefix(f"{base}/")
        other = known.setdefault(plain, key)
        if other != key:
            raise SourceError(f"{path} lists one image as {other!r} and as {key!r}: remove one of the rows")


def _tidy(entry: str) -> str:
    """The path without what leads nowhere, as ./ and //; most have nothing of it."""
    if "//" in entry or "./" in entry or entry.endswith(("/", "/.")):
        return PurePosixPath(entry).as_posix()
    return entry


def _folded(name: str) -> str:
    """What a name and those with other capitals, or in another Unicode form, have in common, and no name is."""
    return f"/{unicodedata.normalize('NFC', name).casefold()}"


def _stamps(folder: Path, keys: list[str], on_listed: OnListed) -> list[str]:
    if is_remote(folder):  # a request for each would take hours
        there = dict(keys_below(folder))
        on_listed(len(keys))
        return [there.get(key, ABSENT) for key in keys]
    stamps = []
    for start in range(0, len(keys), _TOLD_EVERY):
        some_keys = keys[start : start + _TOLD_EVERY]
        stamps += [file_stamp(os.path.join(folder, key)) for key in some_keys]  # noqa: PTH118
        on_listed(len(some_keys))
    return stamps
