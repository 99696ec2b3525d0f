"""What a command puts right in its own process before anything heavy is imported: streams, settings, signals.

It changes nothing outside of the process and those that it starts.
"""

from __future__ import annotations

import getpass
import io
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from pipeline.errors import SurroundingsError

STANDARD = {"stdin": "r", "stdout": "w", "stderr": "w"}
"""The standard streams in the order of their numbers, and what is done with each."""

ENDING = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
"""The signals that ask a program to end; Windows has no SIGHUP."""

PASSIVE = {"OMP_WAIT_POLICY": "passive"}
"""What lets threads sleep while they wait; a person's own values win.

torch and scikit-learn bring an OpenMP runtime each, XGBoost uses one of them. By default their threads wait busily,
for the better part of a second, after each parallel region: they keep the cores from one another, and from whatever
else runs. The runtimes read these names when they are loaded.
"""


class Interrupted(KeyboardInterrupt):
    """One of ENDING has come, `number`; everything unwinds as for Ctrl-C."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


def prepare() -> None:
    """Make streams write whatever comes, and settle what libraries read from the environment when they are imported."""
    _open_streams()
    for name, value in PASSIVE.items():
        os.environ.setdefault(name, value)
    try:
        getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name, whom torch's import would ask for one
        os.environ["USER"] = f"user-{os.getuid()}"


def check_folders() -> None:
    """Raise SurroundingsError where the working folder is gone, or what TMPDIR names is no folder."""
    try:
        Path.cwd()
    except OSError as error:
        raise SurroundingsError("the folder that this was started in is gone: change to one that exists") from error
    temporary = os.environ.get("TMPDIR")
    if temporary and not (Path(temporary).is_dir() and os.access(temporary, os.W_OK | os.X_OK)):
        raise SurroundingsError(f"TMPDIR={temporary} is no folder that can be written to: make it, or name another")


@contextmanager
def unwinding() -> Iterator[None]:
    """Let each of ENDING raise Interrupted, so that temporary folders go; a second one ends the process at once.

    One that is ignored, as `nohup` has it, stays ignored.
    """
    before = {number: signal.getsignal(number) for number in ENDING}
    for number, handler in before.items():
        if handler != signal.SIG_IGN:
            signal.signal(number, _interrupt)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _interrupt(number: int, _: FrameType | None) -> None:
    signal.signal(number, signal.SIG_DFL)
    raise Interrupted(number)


def _open_streams() -> None:
    """Let standard output replace what its encoding lacks, and lead streams that were closed to where it does no harm.

    Otherwise the next file that is opened would take the number of a closed one, and get what libraries print. Results
    go to standard error where standard output was closed.
    """
    closed = sys.stdout is None
    for name, mode in STANDARD.items():
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_RDWR), mode, encoding="utf-8"))
    if closed:
        sys.stdout = sys.stderr
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace", newline="\n")
