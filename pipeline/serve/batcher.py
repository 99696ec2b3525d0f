"""Images of concurrent requests, classified together: each thread takes what has queued up.

As in `features.loop`, a thread reads, decodes and computes alone, and there are as many as keep the device busy.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from contextlib import ExitStack
from dataclasses import dataclass, replace
from queue import Empty, SimpleQueue
from threading import Lock, Thread
from types import TracebackType
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray

from features.devices import exact_float32, worker_count
from features.errors import DecodeError
from features.loop import batch_images, batch_runner, start_worker
from features.trunk.trunk import Trunk
from models.heads.head import Classifier


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
        self._run, self._most = batch_runner(trunks), batch_images(trunks)
        self._waiting: SimpleQueue[_Job | None] = SimpleQueue()
        self._at_head = Lock()  # heads promise nothing of threads
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        device = self._trunks[0].device
        threads = [Thread(target=self._work, daemon=True) for _ in range(worker_count(device))]
        self._stack.enter_context(exact_float32())
        self._stack.callback(torch.set_num_threads, torch.get_num_threads())
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
            try:
                self._classify(jobs)
            except Exception as error:  # a bug, or no memory: whoever asked is told, and the thread lives on
                for job in jobs:
                    if not job.seen.done():
                        job.seen.set_exception(error)

    def _taken(self) -> list[_Job]:
        """What has queued up, up to a batch; nothing at the end."""
        jobs: list[_Job] = []
        try:
            while len(jobs) < self._most:
                job = self._waiting.get(block=not jobs)
                if job is None:
                    self._waiting.put(None)  # the other threads are to see it as well
                    break
                if job.seen.set_running_or_notify_cancel():
                    jobs.append(job)
        except Empty:
            pass
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
