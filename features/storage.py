"""Files that are there whole or not at all, and JSON with one spelling, so that a digest of it means something.

On this machine they are written beside and renamed, in a store uploaded when they are whole; see `features.stores`.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import secrets
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self, TypeVar

from typing_extensions import TypeAliasType

from features.errors import OutputError, first_line
from features.stores import asking, create, is_remote, upload

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


@dataclass(frozen=True, kw_only=True)
class FileRecord:
    """A file as it was written: the SHA-256 (64 hex digits) of its bytes, and how many these are."""

    sha256: str
    bytes: int

    @classmethod
    def of(cls, path: Path) -> Self:
        """The record of the file at `path`, read whole."""
        return cls(sha256=file_sha256(path), bytes=path.stat().st_size)

    def fits(self, path: Path) -> bool:
        """Whether the file at `path` is the one that was written; one of another size is not read."""
        return path.is_file() and path.stat().st_size == self.bytes and file_sha256(path) == self.sha256


@contextmanager
def replacing(path: Path, scratch_in: Path | None = None) -> Iterator[Path]:
    """Yield an empty scratch file; on success it takes `path`'s name, on failure it is removed.

    It lies beside `path`, or in `scratch_in`, of the same file system, where whoever holds its lock clears it after a
    kill. What goes to a store lies in a temporary folder until it is uploaded, and is seen there once all of it is.

    What `path` names is on the disk before it is named so, and the name before this returns: after a power failure it
    is the old file or the new one. The scratch file is nobody else's, its path absolute: no library takes a `~` or a
    `?` in that for more than a letter. Raises OutputError where the operating system refuses (disk full, no
    permission, not a folder).
    """
    if is_remote(path):
        with _uploading(path) as scratch:
            yield scratch
        return
    scratch = (scratch_in or path.parent).absolute() / f"{SCRATCH}{secrets.token_hex(8)}"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        scratch.touch(exist_ok=False)  # O_EXCL: neither a file that is there nor a link's target
        yield scratch
        _sync(scratch)
        scratch.replace(path)
        _sync(path.parent)
    except OSError as error:
        raise OutputError(
            f"cannot write {path} ({error.strerror or error}): free some space or choose another `out`"
        ) from error
    finally:
        with suppress(OSError):  # where the folder itself cannot be reached, nothing was written
            scratch.unlink(missing_ok=True)


@contextmanager
def _uploading(path: Path) -> Iterator[Path]:
    """Yield a temporary file that is uploaded to `path` on success."""
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder, "scratch")
        try:
            scratch.touch()
            yield scratch
            upload(scratch, path)
        except OSError as error:
            raise OutputError(
                f"cannot write {path} ({error.strerror or first_line(error)}): check the address, who may write "
                "there and the space for temporary files, or choose another `out`"
            ) from error


def remove(path: Path) -> None:
    """Remove a file, if it is there, and have that on the disk before anything that comes after."""
    path.unlink(missing_ok=True)
    if not is_remote(path):
        _sync(path.parent)


def remove_folder(folder: Path) -> None:
    """Remove a folder with all that is in it."""
    if is_remote(folder):
        with asking(folder) as (store, name):
            store.rm(name, recursive=True)
    else:
        shutil.rmtree(folder)


def _sync(path: Path) -> None:
    """Wait until what is in a file or folder is on the disk; Windows, where folders have no such call, writes later."""
    if os.name == "nt":
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno != errno.EINVAL:  # a file system that syncs no folders
            raise
    finally:
        os.close(handle)


MARK = ".treehead"
"""A file that says of a folder that results are in it, so that no images are looked for there."""


def check_writable(folder: Path) -> None:
    """Make `folder` and see that files can be made in it, before hours are spent; raises OutputError."""
    if str(folder).startswith("hf://"):
        raise OutputError(f"cannot write to {folder}, where each file would be a commit: choose another `out`")
    try:
        if is_remote(folder):
            probe = folder / f"{SCRATCH}{secrets.token_hex(8)}"
            create(probe, b"")
            remove(probe)
            return
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise OutputError(f"cannot write to {folder} ({error.strerror}): choose another `out`") from error


def mark_results(folder: Path) -> None:
    """As `check_writable`, and say of `folder` that results are in it."""
    check_writable(folder)
    if not (folder / MARK).exists():
        with replacing(folder / MARK):
            pass


def write_json(path: Path, content: Json) -> None:
    """Write `content` as indented JSON, atomically."""
    with replacing(path) as scratch:
        scratch.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def read_json(path: Path) -> Json:
    """What a JSON file holds; raises OSError where it cannot be read, ValueError, in one line, where it is no JSON."""
    try:
        content: Json = json.loads(path.read_bytes())
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    return content


def sealed(content: Mapping[str, Json], seal: str) -> dict[str, Json]:
    """`content`, and under the name `seal` its SHA-256, so that damage to any of it is seen."""
    return {**content, seal: digest(content)}


def unsealed(content: Json, seal: str) -> dict[str, Json]:
    """What was `sealed`; raises ValueError, in one line, where it is something else or has been changed."""
    if not isinstance(content, Mapping) or seal not in content:
        raise ValueError(f"no {seal}")
    rest = {name: value for name, value in content.items() if name != seal}
    if digest(rest) != content[seal]:
        raise ValueError("it has been changed since it was written: its SHA-256 differs")
    return rest


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


def hashed(text: str) -> int:
    """A number of 64 bits that depends on `text` alone."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")


def file_sha256(path: Path) -> str:
    """SHA-256 (64 hex digits) of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
