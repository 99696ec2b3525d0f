"""The overlapped loop: each thread takes a batch of images through reading, decoding, transform and trunk.

Threads are at different stages at any moment, so that disk, cores and GPU are busy together. On the CPU a thread for
each core computes alone, which is faster than all cores sharing each batch; on a GPU two batches at a time are on the
device. Nothing here writes.
"""

from __future__ import annotations

import hashlib
import logging
import re
import textwrap
from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from threading import Semaphore
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from features.devices import exact_float32, forwards_at_once, is_out_of_memory, to_device, worker_count
from features.errors import DecodeError, TrunkError
from features.sources.decode import DECODING, NO_MEMORY, decode
from features.sources.formats.rules import Decoding
from features.sources.nvjpeg import decode_on_gpu
from features.sources.source import Payload
from features.stopwatch import Stopwatch
from features.table.ledger import LedgerEntry
from features.trunk.trunk import Trunk

logger = logging.getLogger(__name__)

BATCHES_AHEAD = 3
"""Batches for each thread that may be waiting or done before one is asked for."""

FILES_ON_GPU = 16
"""JPEG files that a GPU decodes at once: it holds each in its own size."""

LONGEST_REASON = 300
"""Characters of what is said of a file, which may quote it."""

Item = TypeVar("Item")
Done = TypeVar("Done")

Reader = Callable[[], Payload]
"""Reads one image; raises OSError or DecodeError where it cannot."""

OnImages = Callable[[int], None]
"""Called with how many images have just been done."""


@dataclass(kw_only=True)
class Outcome:
    """What became of one image: the SHA-256 of its bytes; `reason` and `exception` where it has no features."""

    sha256: str = ""
    reason: str = ""
    exception: str = ""

    def fail(self, reason: str, error: BaseException) -> None:
        """Note why there are no features; where an object lies in memory is no part of it."""
        self.reason = textwrap.shorten(reason, LONGEST_REASON, placeholder=" …")
        self.exception = re.sub(r" at 0x[0-9a-f]+", "", repr(error))


def failures(keys: Iterable[str], outcomes: Sequence[Outcome]) -> list[LedgerEntry]:
    """What the ledger says of the images that have no features; `keys` are those of all, in the order of `outcomes`."""
    return [
        {"key": key, "reason": outcome.reason, "exception": outcome.exception}
        for key, outcome in zip(keys, outcomes, strict=True)
        if outcome.reason
    ]


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
    on_device = Semaphore(forwards_at_once(trunk.device))
    with exact_float32():  # here, because it holds for all threads
        yield from in_order(lambda readers: _run(trunk, readers, on_device), batches, trunk.device)


def in_order(work: Callable[[Item], Done], items: Iterable[Item], device: torch.device) -> Generator[Done]:
    """What `work` makes of each item, in order: as many threads as keep `device` busy, each computing alone."""
    workers, threads = worker_count(device), torch.get_num_threads()
    waiting: deque[Future[Done]] = deque()
    pool = ThreadPoolExecutor(workers, initializer=_start_worker, initargs=(device,))
    try:
        for item in items:
            waiting.append(pool.submit(work, item))
            if len(waiting) > BATCHES_AHEAD * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(threads)  # MKL holds one number for all threads


def _start_worker(device: torch.device) -> None:
    """Let the thread compute alone and, on a GPU, on its own stream, so that its copies run beside others' work."""
    torch.set_num_threads(1)
    if device.type == "cuda":
        cuda: Any = torch.cuda  # its Stream has no types
        cuda.set_stream(cuda.Stream(device))


def _run(trunk: Trunk, readers: Sequence[Reader], on_device: Semaphore) -> Batch:
    watch = Stopwatch(trunk.device)
    outcomes = [Outcome() for _ in readers]
    with torch.inference_mode():
        with watch("read"):
            payloads = [read_payload(reader, outcome) for reader, outcome in zip(readers, outcomes, strict=True)]
        images = _stack_in_memory(payloads)
        raw = images is not None
        if images is None:
            images = _squares(payloads, outcomes, trunk, watch, on_device)
        with on_device:
            features = _features(images, raw, trunk, watch)
    return Batch(outcomes=outcomes, features=features, seconds=watch.seconds)


def read_payload(reader: Reader, outcome: Outcome) -> Payload | None:
    """Read one image and note its SHA-256; None, and why in `outcome`, where it cannot be read."""
    try:
        payload = reader()
    except OSError as error:
        outcome.fail(f"unreadable: {error.strerror or error}", error)
        return None
    except DecodeError as error:
        outcome.fail(str(error), error)
        return None
    except MemoryError as error:
        outcome.fail(NO_MEMORY, error)
        return None
    outcome.sha256 = hashlib.sha256(bytes(payload)).hexdigest()
    return payload


def decode_payload(payload: Payload, outcome: Outcome, rules: Decoding = DECODING) -> torch.Tensor | None:
    """Decode one image to (3, h, w) uint8; None, and why in `outcome`, where it is damaged."""
    try:
        return torch.from_numpy(decode(payload, rules)).permute(2, 0, 1).expand(3, -1, -1)
    except DecodeError as error:
        outcome.fail(str(error), error.__cause__ or error)
        return None


def _stack_in_memory(payloads: list[Payload | None]) -> torch.Tensor | None:
    """Pixels of one size that came from memory, (n, 1 or 3, h, w) uint8; None where they are anything else."""
    pixels = [payload for payload in payloads if payload is not None]
    if not all(isinstance(image, np.ndarray) for image in pixels) or len({np.shape(image) for image in pixels}) != 1:
        return None
    return torch.stack([torch.from_numpy(decode(image)).permute(2, 0, 1) for image in pixels])


def _squares(
    payloads: list[Payload | None], outcomes: list[Outcome], trunk: Trunk, watch: Stopwatch, on_device: Semaphore
) -> torch.Tensor:
    """The images as the trunk takes them, (n, 3, s, s) uint8, without those that turn out damaged."""
    found: list[torch.Tensor | None] = [None] * len(payloads)
    if trunk.spec.decoder == "nvjpeg":
        with on_device:
            found = _squares_by_gpu(payloads, trunk, watch)
    for number, (payload, outcome) in enumerate(zip(payloads, outcomes, strict=True)):
        if payload is not None and found[number] is None:
            found[number] = _square(payload, outcome, trunk, watch)
    squares = [square.permute(1, 2, 0) for square in found if square is not None]
    if not squares:
        return torch.empty(0, 3, trunk.spec.image_size, trunk.spec.image_size, dtype=torch.uint8)
    with watch("transform"):
        return torch.stack(squares).permute(0, 3, 1, 2)


def _square(payload: Payload, outcome: Outcome, trunk: Trunk, watch: Stopwatch) -> torch.Tensor | None:
    """One image decoded and resized, so that only one is held in its own size at a time; None if it is damaged."""
    with watch("decode"):
        pixels = decode_payload(payload, outcome, trunk.spec)
    if pixels is None:
        return None
    with watch("transform"):
        square = trunk.prepare(pixels)
        return square.to(trunk.device) if trunk.spec.decoder == "nvjpeg" else square


def _squares_by_gpu(payloads: list[Payload | None], trunk: Trunk, watch: Stopwatch) -> list[torch.Tensor | None]:
    """What nvJPEG decodes, resized on the GPU, a few files at a time; None for all else."""
    found: list[torch.Tensor | None] = []
    for start in range(0, len(payloads), FILES_ON_GPU):
        files = [payload if isinstance(payload, bytes) else b"" for payload in payloads[start : start + FILES_ON_GPU]]
        with watch("decode"):
            decoded = decode_on_gpu(files, trunk.device, trunk.spec)
        with watch("transform"):
            found += [None if pixels is None else trunk.prepare(pixels) for pixels in decoded]
    return found


def _features(images: torch.Tensor, raw: bool, trunk: Trunk, watch: Stopwatch) -> list[NDArray[np.float16]]:
    """The trunk's features of any number of images, in parts that fit its device's memory.

    `raw` images are not resized yet: they go to the device as they are, and are replicated and resized there.
    """
    parts: list[list[NDArray[np.float16]]] = []
    done = 0
    while done < len(images):
        part = images[done : done + trunk.batch_images]
        features = _try_forward(part, raw, trunk, watch)
        if features is None:
            _halve(trunk, len(part))
        else:
            parts.append(features)
            done += len(part)
    empty = [np.empty((0, dim), np.float16) for dim in trunk.dims]
    return [np.concatenate(node) for node in zip(empty, *parts, strict=True)]


def _try_forward(part: torch.Tensor, raw: bool, trunk: Trunk, watch: Stopwatch) -> list[NDArray[np.float16]] | None:
    """Features of a part of a batch, or None where the device's memory is too small for it."""
    try:
        if raw:
            with watch("copy"):
                part = to_device(part, trunk.device)
            with watch("transform"):
                part = trunk.prepare(part.expand(-1, 3, -1, -1).contiguous(memory_format=torch.channels_last))
        return trunk.forward(part, watch)
    except RuntimeError as error:
        if is_out_of_memory(error):
            return None
        raise


def _halve(trunk: Trunk, images: int) -> None:
    """Make the batch smaller for the rest of the run; raises TrunkError where it is one image already."""
    if images == 1:
        raise TrunkError(
            f"one image of {trunk.spec.image_size} px does not fit the memory of {trunk.device}: "
            "give a smaller `image_size`"
        )
    fewer = 2 ** ((images - 1).bit_length() - 1)
    if fewer < trunk.batch_images:  # another thread may have halved it already
        trunk.batch_images = fewer
        logger.warning(
            "out of memory on %s: batches of %d images from here on (features may differ in their last digit)",
            trunk.device,
            fewer,
        )
    if trunk.device.type == "cuda":
        torch.cuda.empty_cache()
