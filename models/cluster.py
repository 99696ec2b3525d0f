"""Heads learnt by the workers of a Ray cluster: each reads its own part of the table, and none holds it.

They exchange sums (see `together`) and what XGBoost's histograms are made of, by XGBoost's own communicator. So all of
them begin anew where one dies: a head takes minutes, of a table that took hours.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import ray
import torch
from xgboost import collective
from xgboost.core import XGBoostError
from xgboost.tracker import RabitTracker

from features.cluster import DEATHS, Room, connected, result_of, why
from features.errors import ClusterError
from features.table.joined import JoinedTable
from features.table.part import Part, PartTable, parts_of
from features.worker import REACHED
from models.columns.workspace import Workspace, check_learnable
from models.heads.head import ColumnsHead, Learnt, OnStep, Step

logger = logging.getLogger(__name__)

LAST_WORDS = 10
"""Seconds in which workers say what went wrong with them, after one has ended: the others fail because it did."""


def fit_on_ray(address: str | None, head: ColumnsHead, table: JoinedTable, on_step: OnStep) -> None:
    """As `head.fit`, by workers in the cluster at `address`, see `features.cluster.connected`.

    Raises ClusterError where workers die again and again, or where they do not see the table.
    """
    check_learnable(table)
    with connected(address):
        room = Room.of(ray.nodes(), head.device.type)  # type: ignore[no-untyped-call]
        parts = parts_of(table, room.workers)
        for deaths in range(1, DEATHS + 1):
            try:
                learnt = _learn(head, parts, room, on_step)
                break
            except _DeathError as death:
                if deaths == DEATHS:
                    raise ClusterError(f"workers died while {head.name} learnt, {DEATHS} times: {death}") from death
                logger.warning("a worker died (%s): all begin again", death)
    head.finish(learnt, table.classes)


class _DeathError(Exception):
    """A worker is no more."""


def _learn(head: ColumnsHead, parts: list[Part], room: Room, on_step: OnStep) -> Learnt:
    kind: Any = ray.remote(num_cpus=room.cores, num_gpus=room.gpus)(Learner)
    workers = [kind.remote(room.cores) for _ in parts]
    tracker = RabitTracker(n_workers=len(parts), host_ip=ray.util.get_node_ip_address(), sortby="task")  # type: ignore[no-untyped-call]
    tracker.start()
    try:
        told = ray.put((head, tracker.worker_args(), str(Path.cwd())))
        calls = {
            worker.study.options(num_returns="streaming").remote(told, part, rank)
            for rank, (worker, part) in enumerate(zip(workers, parts, strict=True))
        }
        return _followed(calls, on_step)
    finally:
        for worker in workers:
            ray.kill(worker)
        with suppress(XGBoostError):  # it says once more that a worker was lost
            tracker.free()


def _followed(calls: set[Any], on_step: OnStep) -> Learnt:
    """What the first of the workers has learnt, once all have ended; raises what one of them did, or _DeathError."""
    learnt: Learnt | None = None
    death, end = "", float("inf")
    while calls and time.monotonic() < end:
        ready: list[Any] = ray.wait(list(calls), timeout=LAST_WORDS)[0]
        for call in ready:
            try:
                said = result_of(next(call))
            except StopIteration:
                calls.remove(call)
            except (ray.exceptions.RayError, XGBoostError) as error:
                calls.remove(call)
                death, end = death or why(error), min(end, time.monotonic() + LAST_WORDS)
            else:
                if isinstance(said, Step):
                    on_step(said)
                else:
                    learnt = deepcopy(said)  # its arrays lie in memory of Ray's, which goes when Ray does
    if death or learnt is None:
        raise _DeathError(death)
    return learnt


class Learner:
    """A process that learns with others, an actor of Ray's; `cores` are its share of a node."""

    def __init__(self, cores: int) -> None:
        torch.set_num_threads(cores)

    def study(self, told: tuple[ColumnsHead, dict[str, Any], str], part: Part, rank: int) -> Iterator[Step | Learnt]:
        """Learn from a part; the first process yields the steps, and what they all have learnt."""
        head, meeting, started_in = told
        with suppress(OSError):
            os.chdir(started_in)  # what has no whole path was named from there
        absent = [folder for folder in part.folders if isinstance(folder, Path) and not folder.is_dir()]
        if absent:
            raise ClusterError(f"a worker does not see {absent[0]}: give an `out` that {REACHED}")
        steps: SimpleQueue[Step | None] = SimpleQueue()
        with ThreadPoolExecutor(1) as thread:  # XGBoost's communicator is that of a thread
            learning = thread.submit(_study, head, part, {**meeting, "dmlc_task_id": f"{rank:06}"}, steps)
            while step := steps.get():
                if rank == 0:
                    yield step
            learnt = learning.result()
        if rank == 0:
            yield learnt


def _study(head: ColumnsHead, part: Part, meeting: dict[str, Any], steps: SimpleQueue[Step | None]) -> Learnt:
    try:
        with Workspace() as workspace:
            collective.init(**collective.CommunicatorContext(**meeting).args)
            learnt = head.study(PartTable(part), workspace, steps.put)
            workers = collective.get_world_size()
            collective.finalize()  # only now: where this one fails, the others shall not wait for it
        return replace(learnt, learned=learnt.learned | {"workers": workers})
    finally:
        steps.put(None)
