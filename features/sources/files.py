"""Image files on disk: their bytes, and what tells that one has changed."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path
from typing import cast

from features.errors import DecodeError
from features.stores import fetch, is_remote, stamp_of

MOST_BYTES = 2**30
"""Bytes of a file that are read: no photograph has more."""

ABSENT = "absent"

IMAGE_SUFFIX = re.compile(
    r"\.(jpe?g|jpe|jfif|png|gif|webp|bmp|tiff?|hei[cf]|avif|jp2|j2k|p[pgb]m|tga|ico|dcm)", re.IGNORECASE
)
"""What an image's name may end in."""

_OTHERS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}

_FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)


def read_file(path: Path) -> bytes:
    """The bytes of an image file.

    Raises OSError where it cannot be read, DecodeError where it is no file (such are not opened: a pipe would wait for
    ever) or is larger than MOST_BYTES.
    """
    if is_remote(path):
        return fetch(path)
    _check(path.stat())
    with os.fdopen(os.open(path, _FLAGS), "rb") as file:
        _check(os.fstat(file.fileno()))  # another may stand there by now
        return file.read(MOST_BYTES)


def read_part(path: Path, start: int, size: int) -> bytes:
    """An image that lies within a file, such as a tar; raises OSError, and DecodeError where it is too large."""
    _check_size(size)
    if is_remote(path):
        content = fetch(path, start, start + size)
    else:
        with path.open("rb") as file:
            file.seek(start)
            content = file.read(size)
    if len(content) < size:
        raise OSError(f"{path.name} ends within it")
    return content


def file_stamp(path: str | Path) -> str:
    """Size and time of change: cheap to ask, and different once the file is; ABSENT where there is none."""
    try:
        if is_remote(path):
            return stamp_of(cast(Path, path))
        status = os.stat(path)  # noqa: PTH116 lists of a million images have no Path for each
    except OSError:
        return ABSENT
    return ABSENT if stat.S_ISDIR(status.st_mode) else f"{status.st_size}:{status.st_mtime_ns}"


def _check(status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise DecodeError(f"{_OTHERS.get(stat.S_IFMT(status.st_mode), 'something else')} and not a file: remove it")
    _check_size(status.st_size)


def _check_size(size: int) -> None:
    if size > MOST_BYTES:
        raise DecodeError(f"{size / 1e9:,.1f} GB, over {MOST_BYTES / 1e9:.1f}: no image is so large")
