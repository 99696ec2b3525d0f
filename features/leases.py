"""What locks a folder in a store: an object that its holder renews, and that another run takes over once it runs out.

The holder of a folder is whoever made `.unfinished-lease-<number>` there, which a store lets one alone do (S3's
If-None-Match); who finds one that has run out makes that of the next number. Clocks of machines may differ by less
than the time that a lease lasts between two renewals.
"""

from __future__ import annotations

import json
import logging
import os
import platform
import random
import secrets
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Event, Thread

from features.errors import first_line
from features.storage import SCRATCH, remove
from features.stores import create, fetch, put

logger = logging.getLogger(__name__)

LEASE = f"{SCRATCH}lease-"

LASTS, RENEWED_AFTER, LOOKED_AFTER = 60.0, 15.0, 2.0
"""Seconds that a lease lasts, after which its holder renews it, and after which whoever waits looks again."""


@contextmanager
def leased(folder: Path) -> Iterator[str]:
    """Hold a folder of a store for this run alone; why not, where the store has nothing to lock it with."""
    why = _unlockable(folder)
    if why:
        yield why
        return
    lease, over = _take(folder), Event()
    renewing = Thread(target=_renew, args=(lease, over), daemon=True)
    renewing.start()
    try:
        yield ""
    finally:
        over.set()
        renewing.join()
        with suppress(OSError):  # then it runs out by itself
            remove(lease)


def _unlockable(folder: Path) -> str:
    """Why nothing in this store can be made by one run alone; empty where it can."""
    probe = folder / f"{SCRATCH}{secrets.token_hex(8)}"
    try:
        alone = create(probe, b"") and not create(probe, b"")
        remove(probe)
    except OSError as error:
        return error.strerror or str(error)
    return "" if alone else "the store makes an object twice"


def _take(folder: Path) -> Path:
    """The lease of a folder, once no other run holds it."""
    told = False
    while True:
        there = list(folder.glob(f"{LEASE}*"))
        holder = _holder(there)
        if holder and not told:
            logger.warning("another run (%s) is writing %s: waiting until it is done", holder, folder)
            told = True
        numbers = (int(lease.name.removeprefix(LEASE)) for lease in there)
        mine = folder / f"{LEASE}{1 + max(numbers, default=0)}"
        if not holder and _made(mine):
            others = [lease for lease in folder.glob(f"{LEASE}*") if lease != mine]
            if not _holder(others):  # two that saw none may have made one each, of other numbers
                for stale in others:
                    remove(stale)
                return mine
            remove(mine)
        time.sleep(random.uniform(0.5, 1.5) * LOOKED_AFTER)


def _made(lease: Path) -> bool:
    """Whether the lease is this run's, even if it was made by a request whose answer was lost."""
    content = _content()
    with suppress(FileNotFoundError):
        return create(lease, content) or fetch(lease) == content
    return False


def _holder(leases: Sequence[Path]) -> str:
    """Who holds one of `leases`; empty where all have run out, or are gone by now."""
    for lease in leases:
        with suppress(FileNotFoundError, ValueError, KeyError):
            about = json.loads(fetch(lease))
            if about["until"] > time.time():
                return str(about["who"])
    return ""


def _content() -> bytes:
    who = f"process {os.getpid()} on {platform.node()}"
    return json.dumps({"who": who, "until": time.time() + LASTS, "one": secrets.token_hex(8)}).encode()


def _renew(lease: Path, over: Event) -> None:
    while not over.wait(RENEWED_AFTER):
        try:
            if not lease.exists():
                logger.warning("another run has taken over %s, which was not heard of for a while", lease.parent)
                return
            put(lease, _content())
        except OSError as error:
            logger.warning("%s could not be held for longer (%s): it is tried again", lease.parent, first_line(error))
