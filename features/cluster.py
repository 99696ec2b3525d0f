"""Shards made by the workers of a Ray cluster: each reads its own images and writes its own shards.

Here it is only handed out which. A worker holds the trunks once; where it dies, another takes its place and its shards.
Images and tables must be where each node reaches them by the same name.
"""

from __future__ import annotations

import io
import logging
import os
import signal
import socket
import textwrap
import threading
from collections import Counter, deque
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout, suppress
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import pandas as pd
import ray

from features.devices import usable_cores
from features.errors import ClusterError, DecodeError
from features.locks import clear_unfinished
from features.making import Order, Step
from features.sources.source import Source
from features.stores import is_remote
from features.trunk.trunk import Trunk
from features.worker import Job, OpenTrunks, Worker, image_sha256

logger = logging.getLogger(__name__)

CORES = 4
"""Cores that a worker without a GPU has at most: what it holds, they share."""

OBJECT_STORE = 2**29
"""Bytes of shared memory of a cluster that is started here: only the list of images is in it, and images in memory."""

TOGETHER = 4
"""Shards that a worker is given at once at most, so that it writes one while it goes on with the next."""

DEATHS = 3
"""Workers in a row that one shard may kill."""

AUTO = "auto"
"""The address of the cluster that this machine is a node of."""

ANSWERS = 10
"""Seconds in which a cluster must answer."""

LONGEST = 200
"""Letters of what Ray has to say that are shown."""

PATIENCE = 60
"""Seconds without a sign of any worker after which a warning says so."""

TRIED = 16
"""Images that are tried here until one can be read, for workers to read the same."""


@contextmanager
def connected(address: str | None) -> Iterator[None]:
    """Be connected to the Ray cluster at `address` (`auto`: the one that runs here), or to one started for the while.

    Raises ClusterError where there is none. It sends no usage statistics, shows no dashboard, and is left at the end.
    """
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    handler = signal.getsignal(signal.SIGTERM)
    with redirect_stdout(io.StringIO()):  # where Ray says who died, as is said here in a line: results go there
        try:
            _join(address)
            if threading.current_thread() is threading.main_thread():
                signal.signal(signal.SIGTERM, handler)  # Ray has put its own there
            yield
        finally:
            ray.shutdown()


def _join(address: str | None) -> None:
    own: dict[str, Any] = {"num_cpus": usable_cores(), "object_store_memory": OBJECT_STORE, "include_dashboard": False}
    try:
        if address not in (None, AUTO):
            host, _, port = address.rpartition(":")
            socket.create_connection((host, int(port)), timeout=ANSWERS).close()  # Ray itself would try for minutes
        ray.init(address or "local", log_to_driver=False, logging_level=logging.ERROR, **({} if address else own))
    except (OSError, RuntimeError, ValueError) as error:
        asked = f"`address={address}`" if address else "`on=ray`"
        raise ClusterError(
            f"{asked} came, but no Ray cluster could be joined ({textwrap.shorten(str(error), LONGEST)}): "
            "start one with ray start --head, and give host:port, or auto on one of its nodes"
        ) from error


def make_on_ray(
    address: str | None, open_trunks: OpenTrunks, source: Source, trunks: Sequence[Trunk], orders: Mapping[int, Order]
) -> Generator[Step]:
    """As `make_shards`, by workers in a cluster, see `connected`; each opens the same trunks by `open_trunks`.

    Raises ClusterError where one shard kills worker after worker, or where there is nowhere to work.
    """
    writes = [write for order in orders.values() for of_trunk in order.writes for write in of_trunk if write]
    job = Job(
        source=replace(source, items=source.items.iloc[:0]),
        open_trunks=open_trunks,
        specs=[trunk.specs for trunk in trunks],
        device=trunks[0].device.type,
        started_in=str(Path.cwd()),
        folders=sorted({write.args[0].parent for write in writes}),  # the tables' own
        known=_known(source, orders),
    )
    with connected(address):
        yield from _Crew(job, orders).work()
    for folder in job.folders:
        next(folder.iterdir(), None)  # NFS may else go on to say that what others wrote just now is not there
        if not is_remote(folder):
            clear_unfinished(folder)  # the workers that died may have been writing


def _known(source: Source, orders: Mapping[int, Order]) -> tuple[int, str, str] | None:
    """The first image that can be read here, if there is one among the first few: its row, key and SHA-256."""
    for row, key in islice(pd.concat([order.items["key"] for order in orders.values()]).items(), TRIED):
        with suppress(OSError, DecodeError):
            return int(str(row)), key, image_sha256(source, int(str(row)))
    return None


@dataclass(frozen=True, kw_only=True)
class Room:
    """How many workers a cluster has room for, and what of a node each takes."""

    workers: int
    cores: int
    gpus: int = 0

    @classmethod
    def of(cls, nodes: Sequence[Mapping[str, Any]], device: str) -> Room:
        """A worker for each GPU, or for each CORES cores of a node; raises ClusterError where there is no room."""
        has = [node["Resources"] for node in nodes if node["Alive"]]
        cores = [int(node.get("CPU", 0)) for node in has]
        gpus = [int(node.get("GPU", 0)) for node in has]
        if device == "cpu":
            each = min(CORES, *filter(None, cores), CORES)
            room = cls(workers=sum(count // each for count in cores), cores=each)
        else:
            shares = [count // max(1, of_node) for count, of_node in zip(cores, gpus, strict=True) if of_node]
            room = cls(workers=sum(gpus), cores=max(1, min(shares, default=1)), gpus=1)
        if not room.workers:
            raise ClusterError(f"the cluster has no {device} to work on: add nodes, or give another `device`")
        return room


class _Crew:
    """The workers of a run, and which shards each has in hand.

    `opening` are those that do not work yet; `making` what the others do, each with its worker and the shards that it
    has not written yet. Shards that a worker died of are handed out one by one, so that it is seen which it was.
    """

    def __init__(self, job: Job, orders: Mapping[int, Order]) -> None:
        self._job = ray.put(job)
        self._room = Room.of(ray.nodes(), job.device)  # type: ignore[no-untyped-call]
        self._orders = orders
        self._queue = deque(orders)
        self._deaths: Counter[int | None] = Counter()
        self._opening: dict[Any, Any] = {}
        self._idle: list[Any] = []
        self._making: dict[Any, tuple[Any, list[int]]] = {}

    def work(self) -> Iterator[Step]:
        """Make all shards."""
        missing = set(self._orders)
        for _ in range(min(self._room.workers, len(missing))):
            self._start()
        while missing:
            ready, _ = ray.wait([*self._opening, *self._making], timeout=PATIENCE)
            if not ready:
                logger.warning("no worker has said anything for %d s: is the cluster busy, or gone?", PATIENCE)
            for call in ready:
                if call in self._opening:
                    self._opened(call)
                elif step := self._made(call):
                    missing -= set(step.written)
                    yield step
            self._hand_out()

    def _start(self) -> None:
        """Have one more worker opened, where and when the cluster has room for it."""
        kind: Any = ray.remote(num_cpus=self._room.cores, num_gpus=self._room.gpus)(Worker)
        worker = kind.remote(self._room.cores)
        self._opening[worker.open.remote(self._job)] = worker

    def _hand_out(self) -> None:
        """Give idle workers shards, fewer as they run out, so that all end together."""
        while self._queue and self._idle:
            several = max(1, min(TOGETHER, len(self._queue) // (2 * self._room.workers)))
            numbers = list(islice(self._queue, several))
            numbers = numbers[:1] if any(self._deaths[number] for number in numbers) else numbers
            for _ in numbers:
                self._queue.popleft()
            worker = self._idle.pop()
            call = worker.make.options(num_returns="streaming").remote({each: self._orders[each] for each in numbers})
            self._making[call] = (worker, numbers)

    def _opened(self, call: Any) -> None:
        worker = self._opening.pop(call)
        try:
            result_of(call)
        except ray.exceptions.RayError as error:
            self._replace(worker, [], error)
        else:
            self._deaths[None] = 0
            self._idle.append(worker)

    def _made(self, call: Any) -> Step | None:
        """What a worker has made by now; None where it has made all that it was given, or is no more."""
        worker, numbers = self._making[call]
        try:
            made: Step
            made, said = result_of(next(call))
        except StopIteration:
            del self._making[call]
            self._idle.append(worker)
            return None
        except ray.exceptions.RayError as error:
            del self._making[call]
            self._replace(worker, numbers, error)
            return None
        for text in said:
            logger.warning("%s", text)
        for number in made.written:
            numbers.remove(number)
            del self._deaths[number]
        return made

    def _replace(self, worker: Any, numbers: Sequence[int], error: Exception) -> None:
        """Start a worker in place of one that died, and put its shards first in the queue; raises ClusterError."""
        ray.kill(worker)  # it may only have been out of reach
        blamed: Sequence[int | None] = numbers or [None]
        self._deaths.update(blamed)
        for number in blamed:
            if self._deaths[number] == DEATHS:
                first = "" if number is None else self._orders[number].items["key"].iloc[0]
                what = "before they had begun" if number is None else f"of shard {number} ({first} …)"
                raise ClusterError(f"{DEATHS} workers in a row died {what}: {why(error)}")
        logger.warning("a worker died (%s): another takes its place", why(error))
        self._queue.extendleft(reversed(numbers))
        self._start()


def why(error: Exception) -> str:
    """What Ray says of a death, which comes last, but for its advice."""
    return textwrap.shorten(str(error).strip().splitlines()[-1].partition(". ")[0], LONGEST)


def result_of(call: Any) -> Any:
    """What a worker gave; raises what it raised there."""
    try:
        return ray.get(call)
    except ray.exceptions.RayTaskError as error:
        raise error.cause from error
