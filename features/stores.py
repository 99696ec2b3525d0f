"""Where images and results lie: a path of this machine, or a place in a store, s3://, gs:// or hf://.

A place is a `pathlib.Path` or, in a store, a `upath.UPath`, which has all that is used of a Path here and is typed as
one: open, exists, iterdir, glob, stat, read_bytes, `/`, name, parent, with_suffix. What it has not is done here.
"""

from __future__ import annotations

import errno
import os
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import Any, cast

import fsspec
from upath import UPath

from features.errors import SourceError, first_line

STORES = {"s3": "s3", "gs": "gs", "gcs": "gs", "hf": "", "memory": ""}
"""The schemes of stores, and the extra that brings what reads each; `memory` lasts as long as the process."""

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://([^/]*)")

_CHANGED = ("ETag", "etag", "blob_id", "generation", "mtime", "created")
"""What stores call that which changes with a file's content, or at least with every writing of it."""

fsspec.register_implementation("s3", "features.s3.Store", clobber=True)


def place(text: str | Path) -> Path:
    """The place that a person names; no store is asked for it yet.

    Raises SourceError for an address with credentials in it, which it does not repeat, one of another scheme, and
    where what reads it is not installed.
    """
    found = _SCHEME.match(str(text))
    if found is None or is_remote(text):
        return Path(text) if isinstance(text, str) else text
    scheme, first = found[1].lower(), found[2]
    if "@" in first or ":" in first:
        raise SourceError(
            f"an address with credentials in it came ({scheme}://…): give it without, they come from where "
            f"{scheme}'s own tools take them"
        )
    if scheme not in STORES:
        raise SourceError(f"an address of {scheme}:// came: expected a path, or a place at s3://, gs:// or hf://")
    try:
        fsspec.get_filesystem_class(scheme)
    except ImportError as error:
        raise SourceError(f"{scheme}:// needs a package: pip install 'treehead[{STORES[scheme]}]'") from error
    return cast(Path, UPath(f"{scheme}://{str(text).partition('://')[2].rstrip('/')}"))


def is_remote(path: object) -> bool:
    """Whether it is a place in a store."""
    return isinstance(path, UPath) and not isinstance(path, Path)


def name_of(folder: Path) -> str:
    """The folder's own name; of a whole bucket its name, of the working folder what that is called."""
    return folder.resolve().name or str(folder).rstrip("/").rpartition("/")[2]


def opened(path: Path) -> Any:
    """What pyarrow reads the Parquet file at `path` from: no library takes a `~` or a `?` in it for more than that."""
    return path.open("rb") if is_remote(path) else path.absolute()


@contextmanager
def asking(path: Path) -> Iterator[tuple[Any, str]]:
    """The file system of a place in a store, and what it is called there.

    Whatever the store says of it is an OSError: each has errors of its own.
    """
    there = cast(UPath, path)
    try:
        yield there.fs, there.path.rstrip("/")
    except OSError:
        raise
    except Exception as error:
        raise OSError(errno.EIO, first_line(error), str(path)) from error


def fetch(path: Path, start: int | None = None, end: int | None = None) -> bytes:
    """The bytes of an object, or those from `start` to before `end`, in one request; raises OSError."""
    with asking(path) as (store, name):
        return bytes(store.cat_file(name, start=start, end=end))


def upload(file: Path, path: Path) -> None:
    """Put a local file to a place in a store, where it is seen once it is whole; raises OSError."""
    with asking(path) as (store, name):
        store.put_file(str(file), name)


def put(path: Path, content: bytes) -> None:
    """Put an object in one request, whole for whoever reads it meanwhile; raises OSError."""
    with asking(path) as (store, name):
        store.pipe_file(name, content)


def create(path: Path, content: bytes) -> bool:
    """Put an object where there is none; False where there is one. Raises OSError where the store has no such call."""
    try:
        with asking(path) as (store, name):
            store.pipe_file(name, content, mode="create")
    except FileExistsError:
        return False
    return True


def stamp(about: Mapping[str, Any]) -> str:
    """Size, and what else a store says of a file that is another once the file is."""
    changed = next((about[name] for name in _CHANGED if about.get(name)), "")
    return f"{about['size']}:" + str(changed).strip('"')


def stamp_of(path: Path) -> str:
    """The `stamp` of the file at `path`; raises OSError where there is none."""
    with asking(path) as (store, name):
        about = store.info(name)
    if about["type"] == "directory":
        raise IsADirectoryError(errno.EISDIR, "a folder and not a file", str(path))
    return stamp(about)


@lru_cache(maxsize=1)
def listed(root: Path) -> Mapping[str, list[tuple[str, str]]]:
    """Every file below `root`, as (name, stamp), by the folder that it is in, from `root` on.

    Kept within `listed_once`. Raises SourceError.
    """
    found: dict[str, list[tuple[str, str]]] = defaultdict(list)
    try:
        with asking(root) as (store, prefix):
            for key, when in _below(store, prefix):
                folder, _, name = key.rpartition("/")
                found[folder] += [(name, when)] if name else []  # a key that ends in a slash stands for a folder
    except OSError as error:
        raise SourceError(
            f"cannot list {root} ({error.strerror or first_line(error)}): check the address, and who may read it"
        ) from error
    return dict(found)


def keys_below(root: Path) -> Iterator[tuple[str, str]]:
    """Each file that is `listed`, as its path from `root` on, and its stamp."""
    for folder, files in listed(root).items():
        yield from ((f"{folder}/{name}".lstrip("/"), when) for name, when in files)


@contextmanager
def listed_once() -> Iterator[None]:
    """While a set is opened, much is asked of the files in it; what was listed before may have changed."""
    listed.cache_clear()
    try:
        yield
    finally:
        listed.cache_clear()


def inside(folder: Path) -> tuple[list[str], list[str]]:
    """The folders and the files in a folder, by name; none of one that is not there, or may not be listed here."""
    if not is_remote(folder):
        _, folders, files = next(os.walk(folder), ("", [], []))
        return sorted(folders), sorted(files)
    found: dict[str, list[str]] = {"directory": [], "file": []}
    with suppress(FileNotFoundError), asking(folder) as (store, name):
        for about in store.ls(name, detail=True):
            found[about["type"]].append(about["name"].rstrip("/").rpartition("/")[2])
    return sorted(found["directory"]), sorted(found["file"])


def _below(store: Any, name: str) -> Iterator[tuple[str, str]]:
    """Key below `name` and stamp of each file."""
    if hasattr(store, "pages"):
        for page in store.pages(name):
            yield from ((key, stamp({"size": size, "etag": etag})) for key, size, etag in page)
    else:
        for path, about in store.find(name, detail=True).items():
            yield path[len(name) + 1 :], stamp(about)
