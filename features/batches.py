"""The overlapped loop: each thread takes a batch of images through reading, decoding, transform and trunk.

Threads are at different stages at any moment, so that disk, cores and GPU are busy together. On the CPU a thread for
each core computes alone, which is faster than all cores sharing each batch; on a GPU two batches at a time are on the
device. Nothing here writes.
"""

from __future__ import annotations

import hashlib
import logging
from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from threading import Semaphore
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from features.decode import decode
from features.devices import forwards_at_once, worker_count
from features.errors import DecodeError, TrunkError
from features.nvjpeg import decode_on_gpu
from features.sources.base import Payload
from features.stopwatch import Stopwatch
from features.trunks import Trunk

logger = logging.getLogger(__name__)

BATCHES_AHEAD = 3
"""Batches for each thread that may be waiting or done before one is asked for."""

Reader = Callable[[], Payload]
"""Reads one image; raises OSError where it cannot."""


@dataclass(kw_only=True)
class Outcome:
    """What became of one image: the SHA-256 of its bytes; `reason` and `exception` where it has no features."""

    sha256: str = ""
    reason: str = ""
    exception: str = ""


@dataclass(frozen=True, kw_only=True)
class Batch:
    """What became of n images, the features of the m good ones, and the seconds of each stage.

    `features` has one (m, dim) float16 array a node.
    """

    outcomes: list[Outcome]
    features: list[NDArray[np.float16]]
    seconds: dict[str, float]


def run_batches(trunk: Trunk, batches: Iterable[Sequence[Reader]]) -> Generator[Batch]:
    """Take batches of images through `trunk`, in order; what cannot be read or decoded is an outcome, no exception."""
    workers, threads = worker_count(trunk.device), torch.get_num_threads()
    on_device = Semaphore(forwards_at_once(trunk.device))
    waiting: deque[Future[Batch]] = deque()
    pool = ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,))
    try:
        for readers in batches:
            waiting.append(pool.submit(_run, trunk, readers, on_device))
            if len(waiting) > BATCHES_AHEAD * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(threads)  # MKL holds one number for all threads


def _run(trunk: Trunk, readers: Sequence[Reader], on_device: Semaphore) -> Batch:
    watch = Stopwatch(trunk.device)
    outcomes = [Outcome() for _ in readers]
    with torch.inference_mode(), _own_stream(trunk.device):
        with watch("read"):
            payloads = [_read(reader, outcome) for reader, outcome in zip(readers, outcomes, strict=True)]
        with watch("decode"):
            decoded = _decode(payloads, outcomes, trunk)
        with on_device:
            in_memory = all(isinstance(payload, np.ndarray) for payload in payloads)
            squares = _squares([pixels for pixels in decoded if pixels is not None], in_memory, trunk, watch)
            features = _features(squares, trunk, watch)
    return Batch(outcomes=outcomes, features=features, seconds=watch.seconds)


def _own_stream(device: torch.device) -> AbstractContextManager[object]:
    """A CUDA stream of the thread's own, so that its copies run beside the others' computing."""
    if device.type != "cuda":
        return nullcontext()
    cuda: Any = torch.cuda  # its Stream has no types
    stream: AbstractContextManager[object] = cuda.stream(cuda.Stream(device))
    return stream


def _read(reader: Reader, outcome: Outcome) -> Payload | None:
    try:
        payload = reader()
    except OSError as error:
        outcome.reason, outcome.exception = f"unreadable: {error.strerror or error}", repr(error)
        return None
    outcome.sha256 = hashlib.sha256(bytes(payload)).hexdigest()
    return payload


def _decode(payloads: list[Payload | None], outcomes: list[Outcome], trunk: Trunk) -> list[torch.Tensor | None]:
    """Each image as (c, h, w) uint8, c = 1 for grey ones from memory, else 3; None for one that is damaged."""
    decoded: list[torch.Tensor | None] = [None] * len(payloads)
    if trunk.spec.decoder == "nvjpeg":
        decoded = decode_on_gpu([payload if isinstance(payload, bytes) else b"" for payload in payloads], trunk.device)
    for number, (payload, outcome) in enumerate(zip(payloads, outcomes, strict=True)):
        if payload is None or decoded[number] is not None:
            continue
        try:
            decoded[number] = torch.from_numpy(decode(payload)).permute(2, 0, 1)
        except DecodeError as error:
            outcome.reason, outcome.exception = str(error), repr(error.__cause__ or error)
        except MemoryError as error:
            outcome.reason, outcome.exception = "too large for this machine's memory", repr(error)
    return decoded


def _squares(decoded: list[torch.Tensor], in_memory: bool, trunk: Trunk, watch: Stopwatch) -> torch.Tensor:
    """The images as the trunk takes them, (n, 3, s, s) uint8.

    A batch of one size that came from memory goes to the device as it is, and is replicated and resized there.
    """
    size = trunk.spec.image_size
    if not decoded:
        return torch.empty(0, 3, size, size, dtype=torch.uint8)
    if in_memory and len({image.shape for image in decoded}) == 1:
        with watch("copy"):
            images = torch.stack(decoded).to(trunk.device)
        with watch("transform"):
            return trunk.prepare(images.expand(-1, 3, -1, -1).contiguous(memory_format=torch.channels_last))
    with watch("transform"):
        squares = [trunk.prepare(image.expand(3, -1, -1)) for image in decoded]
        return torch.stack([square.permute(1, 2, 0) for square in squares]).permute(0, 3, 1, 2)


def _features(squares: torch.Tensor, trunk: Trunk, watch: Stopwatch) -> list[NDArray[np.float16]]:
    """The trunk's features of any number of images, in parts that fit its device's memory."""
    parts: list[list[NDArray[np.float16]]] = []
    done = 0
    while done < len(squares):
        part = squares[done : done + trunk.batch_images]
        try:
            parts.append(trunk.forward(part, watch))
        except RuntimeError as error:
            if not _is_out_of_memory(error):
                raise
            _halve(trunk, len(part))
            continue
        done += len(part)
    empty = [np.empty((0, dim), np.float16) for dim in trunk.dims]
    return [np.concatenate(node) for node in zip(empty, *parts, strict=True)]


def _is_out_of_memory(error: RuntimeError) -> bool:
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def _halve(trunk: Trunk, images: int) -> None:
    """Make the batch smaller for the rest of the run; raises TrunkError where it is one image already."""
    if images == 1:
        raise TrunkError(
            f"one image of {trunk.spec.image_size} px does not fit the memory of {trunk.device}: "
            "give a smaller --image-size"
        )
    fewer = 2 ** ((images - 1).bit_length() - 1)
    if fewer < trunk.batch_images:  # another thread may have halved it already
        trunk.batch_images = fewer
        logger.warning("out of memory on %s: batches of %d images from here on", trunk.device, fewer)
    if trunk.device.type == "cuda":
        torch.cuda.empty_cache()
