"""One run at a time in each folder that is written in; whoever comes second waits, and hears for whom.

The lock is flock's, on the folder itself: it leaves no file, and goes with the process that holds it; in a store it is
a lease, see `features.leases`. A run holds
several of the same kind in the order of their paths. While it holds that of a network or a trunk it may take others,
while it holds another it takes none: so no two runs wait for one another.
"""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

from features.leases import leased
from features.storage import SCRATCH
from features.stores import is_remote

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

logger = logging.getLogger(__name__)

LOCKS = Path("/proc/locks")
"""Where Linux says who holds which lock."""


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold `folder` (made where absent) for this run alone, and clear it of what killed ones left half-written.

    Where another run holds it, wait for that one: what this one was to do there may then be done. Where there are no
    locks, a warning says so once, and nothing is cleared: it might be another run's.
    """
    if is_remote(folder):
        with leased(folder) as unlockable:
            if unlockable:
                _say_unlocked(unlockable)
            yield
        return
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        if fcntl is None:
            _say_unlocked("this system has no flock")
            yield
            return
        with _opened(folder) as handle:
            held = _lock(handle, folder)
            if not _is_still_there(handle, folder):
                continue  # it was removed while this run waited: what it holds is no folder of anybody's
            if held:
                clear_unfinished(folder)
            yield
            return


@contextmanager
def _opened(folder: Path) -> Iterator[int]:
    handle = os.open(folder, os.O_RDONLY)
    try:
        yield handle
    finally:
        os.close(handle)


def _lock(handle: int, folder: Path) -> bool:
    """Wait for the lock of an open folder; False where its file system has none."""
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            logger.warning("another run%s is writing %s: waiting until it is done", _holder(handle), folder)
            fcntl.flock(handle, fcntl.LOCK_EX)
    except OSError as error:
        _say_unlocked(error.strerror)
        return False
    return True


@cache
def _say_unlocked(why: str) -> None:
    logger.warning("folders cannot be locked (%s): start no second run on the same `out`", why)


def _holder(handle: int) -> str:
    """Which process holds the lock of an open folder, where that can be known."""
    inode = os.fstat(handle).st_ino
    with suppress(OSError):
        for line in LOCKS.read_text(encoding="ascii").splitlines():
            _, kind, _, _, process, file, *_ = line.split()
            if kind == "FLOCK" and file.endswith(f":{inode}"):
                return f" (process {process})"
    return ""


def _is_still_there(handle: int, folder: Path) -> bool:
    """Whether an open folder is the one that has its name."""
    with suppress(OSError):
        return os.path.samestat(os.fstat(handle), folder.stat())
    return False


def clear_unfinished(folder: Path) -> None:
    """Clear a folder that this run holds of what those who were killed left half-written."""
    for scratch in folder.glob(f"{SCRATCH}*"):
        if scratch.is_dir() and not scratch.is_symlink():
            shutil.rmtree(scratch)
        else:
            scratch.unlink()
