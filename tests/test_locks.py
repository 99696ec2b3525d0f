"""One run at a time in a folder, the next one waiting for it."""

from __future__ import annotations

import errno
import fcntl
import importlib
import os
import shutil
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from features import locks
from features.locks import locked

ADVICE = "start no second run on the same `out`"


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Set once a run waits for a lock."""
    event = threading.Event()
    whole = fcntl.flock

    def flock(handle: int, operation: int) -> None:
        if not operation & fcntl.LOCK_NB:
            event.set()
        whole(handle, operation)

    monkeypatch.setattr(fcntl, "flock", flock)
    return event


@pytest.fixture
def waiter() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as pool:
        yield pool


def hold(folder: Path) -> None:
    with locked(folder):
        pass


def is_held(folder: Path) -> bool:
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(handle)
    return False


def test_the_second_waits_and_says_for_whom(
    tmp_path: Path,
    waits: threading.Event,
    waiter: ThreadPoolExecutor,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    table = tmp_path / "locks"
    inode = tmp_path.stat().st_ino
    table.write_text(
        f"1: FLOCK  ADVISORY  WRITE 77 08:01:{inode}0 0 EOF\n1: -> FLOCK  ADVISORY  WRITE 78 08:01:{inode} 0 EOF\n"
        f"2: POSIX  ADVISORY  WRITE 79 08:01:{inode} 0 EOF\n3: FLOCK  ADVISORY  WRITE 4242 08:01:{inode} 0 EOF\n"
    )
    monkeypatch.setattr(locks, "LOCKS", table)
    order: list[str] = []

    def second() -> None:
        with locked(tmp_path):
            order.append("second")

    with locked(tmp_path):
        done = waiter.submit(second)
        assert waits.wait(10)
        order.append("first")
    done.result()
    assert order == ["first", "second"]
    assert caplog.messages == [f"another run (process 4242) is writing {tmp_path}: waiting until it is done"]
    assert not is_held(tmp_path)


def test_who_holds_it_need_not_be_known(
    tmp_path: Path,
    waits: threading.Event,
    waiter: ThreadPoolExecutor,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(locks, "LOCKS", tmp_path / "absent")
    with locked(tmp_path):
        done = waiter.submit(hold, tmp_path)
        assert waits.wait(10)
    done.result()
    assert caplog.messages == [f"another run is writing {tmp_path}: waiting until it is done"]


def test_what_killed_runs_left_is_cleared_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "kept.json").write_text("{}")
    (tmp_path / ".unfinished-0123").write_text("half")
    (tmp_path / ".unfinished-folder/inside").mkdir(parents=True)
    (tmp_path / ".unfinished-link").symlink_to(tmp_path / "kept.json")
    with locked(tmp_path):
        assert [path.name for path in tmp_path.iterdir()] == ["kept.json"]


def test_a_folder_that_is_removed_and_made_again_is_locked_as_it_is_now(
    tmp_path: Path, waits: threading.Event, waiter: ThreadPoolExecutor
) -> None:
    folder = tmp_path / "folder"

    def second() -> bool:
        with locked(folder):
            return is_held(folder)

    with locked(folder):
        done = waiter.submit(second)
        assert waits.wait(10)
        shutil.rmtree(folder)
        folder.mkdir()
    assert done.result()


@pytest.mark.parametrize("number", [errno.ENOTSUP, errno.ENOLCK, errno.ENOSYS])
def test_a_file_system_without_locks_is_said_once(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)
    locks._say_unlocked.cache_clear()
    anothers = tmp_path / ".unfinished-0123"
    anothers.write_text("perhaps of a run that goes on")
    for _ in range(2):
        with locked(tmp_path):
            assert anothers.exists()
    assert caplog.messages == [f"folders cannot be locked ({os.strerror(number)}): {ADVICE}"]


def test_a_system_without_locks_is_said_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with monkeypatch.context() as windows:
        windows.setitem(sys.modules, "fcntl", None)
        importlib.reload(locks)
        for name in ("first", "second"):
            with locks.locked(tmp_path / name):
                assert (tmp_path / name).is_dir()
    importlib.reload(locks)
    assert caplog.messages == [f"folders cannot be locked (this system has no flock): {ADVICE}"]
