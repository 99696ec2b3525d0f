"""Images of concurrent requests, classified together: each thread takes what has queued up.

As in `features.loop`, a thread reads, decodes and computes alone, and there are as many as keep the device busy.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from queue import Empty, SimpleQueue
from threading import Lock, Thread, current_thread
from types import TracebackType
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from features.devices import exact_float32, worker_count
from features.errors import DecodeError
from features.loop import batch_images, batch_runner, start_worker
from features.trunk.trunk import Trunk
from models.heads.head import Classifier

MOMENT = 0.005
"""Seconds in which the next request mostly comes where many ask, who are answered sooner if they go together."""


@dataclass(frozen=True)
class Seen:
    """What came of an image: (k,) float32 `probabilities` of its classes, and its (d,) float32 `features`."""

    probabilities: NDArray[np.float32]
    features: NDArray[np.float32]


@dataclass(frozen=True)
class _Job:
    content: bytes
    seen: Future[Seen]

    def read(self) -> bytes:
        return self.content


class Batcher:
    """A classifier whose threads run within `with`; images of more than `max_pixels` are refused."""

    def __init__(self, head: Classifier, trunks: Sequence[Trunk], max_pixels: int) -> None:
        for trunk in trunks:
            trunk.spec = replace(trunk.spec, max_pixels=min(max_pixels, trunk.spec.max_pixels))
        self._head, self._trunks = head, trunks
        self._run, self._most = batch_runner(trunks, looking=False), batch_images(trunks)
        self._waiting: SimpleQueue[_Job | None] = SimpleQueue()
        self._busy: set[Thread] = set()
        self._at_head = Lock()  # heads promise nothing of threads
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        device = self._trunks[0].device
        threads = [Thread(target=self._work, daemon=True) for _ in range(worker_count(device))]
        self._stack.callback(torch.set_num_threads, torch.get_num_threads())
        self._stack.enter_context(exact_float32())
        alone: Any = threadpool_limits  # it has no types
        self._stack.enter_context(alone(1))  # BLAS's own threads wait busily for the next small product
        for thread in threads:
            thread.start()
            self._stack.callback(thread.join)
        self._stack.callback(self._waiting.put, None)  # comes first: what is unwound last was entered first
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stack.close()

    def submit(self, content: bytes) -> Future[Seen]:
        """Queue an image file; its future raises DecodeError for what is none."""
        job = _Job(content, Future())
        self._waiting.put(job)
        return job.seen

    def _work(self) -> None:
        start_worker(self._trunks[0].device)
        while jobs := self._taken():
            self._busy.add(current_thread())
            try:
                self._classify(jobs)
            except Exception as error:  # a bug, or no memory: whoever asked is told, and the thread lives on
                for job in jobs:
                    if not job.seen.done():
                        job.seen.set_exception(error)
            self._busy.discard(current_thread())

    def _taken(self) -> list[_Job]:
        """What has queued up, up to a batch, and comes in a moment where others ask too; nothing at the end."""
        jobs: list[_Job] = []
        with suppress(Empty):
            while len(jobs) < self._most:
                job = self._waiting.get(timeout=(MOMENT if self._busy else 0) if jobs else None)
                if job is None:
                    self._waiting.put(None)  # the other threads are to see it as well
                    break
                if job.seen.set_running_or_notify_cancel():
                    jobs.append(job)
        return jobs

    def _classify(self, jobs: Sequence[_Job]) -> None:
        batch = self._run([job.read for job in jobs])
        features = np.hstack(batch.features).astype(np.float32)
        with self._at_head:
            shares = self._head.predict_proba(features) if len(features) else features
        rows = iter(zip(shares, features, strict=True))
        for job, outcome in zip(jobs, batch.outcomes, strict=True):
            if outcome.reason:
                job.seen.set_exception(DecodeError(outcome.reason))
            else:
                job.seen.set_result(Seen(*next(rows)))
