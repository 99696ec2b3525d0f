"""Image files on disk: their bytes, and what tells that one has changed."""

from __future__ import annotations

import os
from pathlib import Path


def read_file(path: Path) -> bytes:
    """The bytes of an image file; raises OSError where it cannot be read."""
    return path.read_bytes()


def file_stamp(path: Path) -> str:
    """Size and time of change: cheap to ask, and different once the file is; `absent` where there is none."""
    try:
        status = path.stat()
    except OSError:
        return "absent"
    return stamp_of(status)


def stamp_of(status: os.stat_result) -> str:
    """The stamp of a file of which that is known."""
    return f"{status.st_size}:{status.st_mtime_ns}"
