"""A worker of a Ray cluster: it holds the trunks once, reads its own images and writes its own shards.

Who is given which shards, and what becomes of a worker that dies: see `features.cluster`.
"""

from __future__ import annotations

import hashlib
import logging
import os
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from logging.handlers import QueueHandler
from pathlib import Path
from queue import SimpleQueue

import ray
import torch

from features.errors import ClusterError, DecodeError, first_line
from features.making import Order, Step, make_shards
from features.sources.source import Source
from features.trunk.spec import TrunkSpec
from features.trunk.trunk import Trunk

REACHED = "all nodes reach by the same path"

OpenTrunks = Callable[[torch.device], Sequence[Trunk]]
"""Builds trunks on a device, in any process that unpickles it."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """What each worker is told once: how to read images and open trunks, those of `specs`, and where it works.

    It comes from the folder `started_in`, where the tables' `folders` are, and where `known` could be read, an image's
    row, key and SHA-256.
    """

    source: Source
    open_trunks: OpenTrunks
    specs: Sequence[tuple[TrunkSpec, ...]]
    device: str
    started_in: str
    folders: Sequence[Path]
    known: tuple[int, str, str] | None


class Worker:
    """The part of a cluster that makes shards, an actor of Ray's; `cores` are its share of a node.

    Beside a GPU, a thread for each core that the process may use prepares images: it keeps to its share.
    """

    def __init__(self, cores: int) -> None:
        torch.set_num_threads(cores)
        gpus = ray.get_gpu_ids() if ray.is_initialized() else []
        if gpus and hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(0, own_cores(sorted(os.sched_getaffinity(0)), str(gpus[0]), cores))
        self._name = f"the worker on {socket.gethostname()}"
        self._said: SimpleQueue[logging.LogRecord] = SimpleQueue()
        handler = QueueHandler(self._said)  # what is logged is said where a person is
        handler.setLevel(logging.WARNING)
        logging.getLogger("features").addHandler(handler)

    def open(self, job: Job) -> None:
        """Open the trunks; raises FeaturesError where images, tables or trunks are not the same as elsewhere."""
        with suppress(OSError):
            os.chdir(job.started_in)  # what has no whole path was named from there
        absent = [folder for folder in job.folders if isinstance(folder, Path) and not folder.is_dir()]
        if absent:  # whoever handed this out has made it: it carries the table's fingerprint, and is no other
            raise ClusterError(f"{self._name} does not see {absent[0]}: give an `out` that {REACHED}")
        self._check_images(job)
        built = {trunk.specs: trunk for trunk in job.open_trunks(torch.device(job.device))}
        self._source = job.source
        self._trunks = [built[specs] if specs in built else self._refuse(specs, list(built)) for specs in job.specs]

    def _check_images(self, job: Job) -> None:
        if job.known is None:
            return
        row, key, sha256 = job.known
        try:
            found = image_sha256(job.source, row)
        except (OSError, DecodeError) as error:
            why = getattr(error, "strerror", None) or first_line(error)
            raise ClusterError(f"{self._name} cannot read {key} ({why}): give images that {REACHED}") from error
        if found != sha256:
            raise ClusterError(f"{self._name} reads another image as {key}: give images that {REACHED}")

    def _refuse(self, specs: tuple[TrunkSpec, ...], found: list[tuple[TrunkSpec, ...]]) -> Trunk:
        here = next((each[0] for each in found if each[0].backbone == specs[0].backbone), None)
        mine, theirs = (spec.to_json() if spec else {} for spec in (here, specs[0]))
        odd = next((name for name, value in theirs.items() if mine.get(name) != value), "node")
        raise ClusterError(
            f"{self._name} makes other features of {specs[0].backbone} ({odd} is {mine.get(odd)!r} there and "
            f"{theirs[odd]!r} where the command runs): run it on a node of the same kind, with the same weights"
        )

    def make(self, orders: Mapping[int, Order]) -> Iterator[tuple[Step, list[str]]]:
        """Make shards, and say after each what was done since the one before, and what a person should hear."""
        done = Step(own=[{} for _ in self._trunks])
        for step in make_shards(self._source, self._trunks, orders):
            done = done.then(step)
            if step.written:
                said = [self._said.get() for _ in range(self._said.qsize())]
                yield done, [f"{self._name}: {record.getMessage()}" for record in said]
                done = Step(own=[{} for _ in self._trunks])


def own_cores(usable: Sequence[int], gpu: str, cores: int) -> Sequence[int]:
    """Those of a node's `usable` cores that belong to a GPU, by its number; all where it has none, or lies beyond.

    >>> own_cores(range(8), "1", 3), own_cores(range(2), "1", 3)
    (range(3, 6), range(0, 2))
    """
    start = int(gpu) * cores if gpu.isdecimal() else 0
    return usable[start : start + cores] or usable


def image_sha256(source: Source, row: int) -> str:
    """SHA-256 of the bytes of an image; raises OSError or DecodeError where it cannot be read."""
    return hashlib.sha256(bytes(source.read(row))).hexdigest()
