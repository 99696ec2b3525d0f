"""Files written beside and renamed, and JSON with one spelling, so that a digest of it means something."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

from typing_extensions import TypeAliasType

from features.errors import OutputError

Json = TypeAliasType("Json", "bool | int | float | str | Sequence[Json] | Mapping[str, Json] | None")
"""What JSON can hold."""

Kind = TypeVar("Kind")

SCRATCH = ".unfinished-"
"""How the names of files begin that are still being written."""

LONGEST_NAME = 80
"""Bytes of a data set's name that a folder's name takes over; file systems allow 255 in all."""


def dataset_folder(dataset: str, rest: str) -> str:
    """The name of a data set's folder: the data set, cut where it is long, then `rest`; no odd characters in it."""
    name = dataset.encode()[:LONGEST_NAME].decode(errors="ignore")
    return re.sub(r"[^\w.-]+", "_", name + rest)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a scratch path beside `path`; on success it takes `path`'s name, on failure it is removed.

    Raises OutputError where the operating system refuses (disk full, no permission, not a folder).
    """
    scratch = path.with_name(f"{SCRATCH}{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield scratch
        scratch.replace(path)
    except OSError as error:
        raise OutputError(
            f"cannot write {path} ({error.strerror or error}): free some space or choose another `out`"
        ) from error
    finally:
        with suppress(OSError):  # where the folder itself cannot be reached, nothing was written
            scratch.unlink(missing_ok=True)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold `folder` (made where absent) for this process alone, and clear it of what a killed one left half-written.

    Raises OutputError where another process holds it. The lock goes with the process that holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise OutputError(f"another run is writing {folder}: wait for it, or choose another `out`") from error
        for scratch in folder.glob(f"{SCRATCH}*"):
            scratch.unlink()
        yield
    finally:
        os.close(handle)


def link_or_copy(source: Path, target: Path) -> None:
    """Give `target` the bytes of `source`, without copying them where the file system can share them."""
    with replacing(target) as scratch:
        try:
            scratch.hardlink_to(source)
        except OSError:
            shutil.copyfile(source, scratch)


def check_writable(folder: Path) -> None:
    """Make `folder` and see that files can be made in it, before hours are spent; raises OutputError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise OutputError(f"cannot write to {folder} ({error.strerror}): choose another `out`") from error


def write_json(path: Path, content: Json) -> None:
    """Write `content` as indented JSON, atomically."""
    with replacing(path) as scratch:
        scratch.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def from_json(kind: type[Kind], content: Json) -> Kind:
    """The dataclass `kind` of which `content`, as JSON holds it, has the fields: lists become tuples where it has some.

    Raises ValueError, in one line, for a field that is missing, unknown or of another type: "5" is no number.
    """
    from pydantic import TypeAdapter, ValidationError  # help need not wait for it

    try:
        return TypeAdapter(kind).validate_json(json.dumps(content), strict=True, extra="forbid")
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or kind.__name__
        raise ValueError(f"{where}: {first['msg']}") from error


def digest(content: Json) -> str:
    """SHA-256 (64 hex digits) of `content` as canonical JSON: keys sorted, no spaces."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def file_sha256(path: Path) -> str:
    """SHA-256 (64 hex digits) of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
