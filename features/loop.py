"""The overlapped loop: each thread takes a batch of images through reading, decoding, transform and trunk.

Threads are at different stages at any moment, so that disk, cores and GPU are busy together. On the CPU a thread for
each core computes alone, which is faster than all cores sharing each batch; on a GPU two batches at a time are on the
device. Nothing here writes.
"""

from __future__ import annotations

import logging
from bisect import bisect_left
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
from features.errors import TrunkError
from features.looks import look
from features.outcomes import Outcome, Reader, decode_payload, read_payload
from features.sources.decode import decode
from features.sources.nvjpeg import decode_on_gpu
from features.sources.source import Payload
from features.timing import Stopwatch
from features.trunk.trunk import Trunk

logger = logging.getLogger(__name__)

BATCHES_AHEAD = 3
"""Batches for each thread that may be waiting or done before one is asked for."""

READ_TOGETHER = 16
"""Images that are read and decoded one after the other at least, before they go through the network."""

FILES_ON_GPU = 16
"""JPEG files that a GPU decodes at once: it holds each in its own size."""

Item = TypeVar("Item")
Done = TypeVar("Done")

OnImages = Callable[[int], None]
"""Called with how many images have just been done."""


@dataclass(frozen=True, kw_only=True)
class Batch:
    """What became of n images, features and `looks` of the m good ones, and the seconds of each stage.

    `features` has one (m, dim) float16 array a node, trunk by trunk; `looks` (m, 6) tells how images look to the first
    trunk, see `features.looks`; `seconds` are those of what is done once, `trunk_seconds` those of each trunk.
    """

    outcomes: list[Outcome]
    looks: NDArray[np.float32]
    features: list[NDArray[np.float16]]
    seconds: dict[str, float]
    trunk_seconds: list[dict[str, float]]


def run_batches(trunks: Sequence[Trunk], parts: Iterable[Sequence[Reader]]) -> Generator[Batch]:
    """Take images through `trunks` in order, no batch with images of two parts.

    What cannot be read or decoded is an outcome, no exception. Each image is read and decoded once: trunks are on one
    device, and decode alike.
    """
    size = batch_images(trunks)
    batches = (part[start : start + size] for part in parts for start in range(0, len(part), size))
    with exact_float32():  # here, because it holds for all threads
        yield from in_order(batch_runner(trunks), batches, trunks[0].device)


def batch_runner(trunks: Sequence[Trunk], *, looking: bool = True) -> Callable[[Sequence[Reader]], Batch]:
    """What takes one batch of images through `trunks`, as `run_batches` does, in whatever thread calls it.

    Unless it is `looking`, nothing is said of how images look, which is a fiftieth of the time.
    """
    on_device = Semaphore(forwards_at_once(trunks[0].device))
    return lambda readers: _Pass(trunks, on_device, looking).run(readers)


def batch_images(trunks: Sequence[Trunk]) -> int:
    """How many images are taken through `trunks` at once: whole batches of each.

    Decoding a few more at a time than the smallest batches saves caches that the network empties.
    """
    return max(READ_TOGETHER, *(trunk.batch_images for trunk in trunks))


def in_order(work: Callable[[Item], Done], items: Iterable[Item], device: torch.device) -> Generator[Done]:
    """What `work` makes of each item, in order: as many threads as keep `device` busy, each computing alone."""
    workers, threads = worker_count(device), torch.get_num_threads()
    waiting: deque[Future[Done]] = deque()
    pool = ThreadPoolExecutor(workers, initializer=start_worker, initargs=(device,))
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


def start_worker(device: torch.device) -> None:
    """Let the thread compute alone and, on a GPU, on its own stream, so that its copies run beside others' work."""
    torch.set_num_threads(1)
    if device.type == "cuda":
        cuda: Any = torch.cuda  # its Stream has no types
        cuda.set_stream(cuda.Stream(device))


class _Pass:
    """One batch on its way through `trunks`; `watch` is for what is done once, `watches` for each trunk's own."""

    def __init__(self, trunks: Sequence[Trunk], on_device: Semaphore, looking: bool) -> None:
        self.trunks = trunks
        self.looking = looking
        self.on_device = on_device
        self.device = trunks[0].device
        self.by_gpu = trunks[0].spec.decoder == "nvjpeg"
        self.watch = Stopwatch(self.device)
        self.watches = [Stopwatch(self.device) for _ in trunks]

    @torch.inference_mode()
    def run(self, readers: Sequence[Reader]) -> Batch:
        outcomes = [Outcome() for _ in readers]
        with self.watch("read"):
            payloads = [read_payload(reader, outcome) for reader, outcome in zip(readers, outcomes, strict=True)]
        pixels = _stack_in_memory(payloads)
        images = self.squares(payloads, outcomes) if pixels is None else [pixels] * len(self.trunks)
        places = [place for place, outcome in enumerate(outcomes) if not outcome.reason]
        with self.watch("look"):
            if self.looking and pixels is not None:
                for place, image in zip(places, pixels, strict=True):
                    outcomes[place].seen(image)
            looks = look(images[0] if self.looking else images[0][:0])
        features: list[NDArray[np.float16]] = []
        with self.on_device:
            for trunk, watch, part in zip(self.trunks, self.watches, images, strict=True):
                features += _features(part, places, pixels is not None, trunk, watch)
        return Batch(
            outcomes=outcomes,
            looks=looks,
            features=features,
            seconds=self.watch.seconds,
            trunk_seconds=[watch.seconds for watch in self.watches],
        )

    def squares(self, payloads: list[Payload | None], outcomes: list[Outcome]) -> list[torch.Tensor]:
        """The images as each trunk takes them, (n, 3, s, s) uint8, without those that turn out damaged."""
        found: list[list[torch.Tensor] | None] = [None] * len(payloads)
        if self.by_gpu:
            with self.on_device:
                found = self.squares_by_gpu(payloads, outcomes)
        for number, (payload, outcome) in enumerate(zip(payloads, outcomes, strict=True)):
            if payload is not None and found[number] is None:
                found[number] = self.square(payload, outcome)
        good = [squares for squares in found if squares is not None]
        return [self.stacked([squares[number] for squares in good], number) for number in range(len(self.trunks))]

    def stacked(self, squares: list[torch.Tensor], number: int) -> torch.Tensor:
        """The images of trunk `number` in one tensor, their channels last in memory."""
        size = self.trunks[number].spec.image_size
        if not squares:
            return torch.empty(0, 3, size, size, dtype=torch.uint8)
        with self.watches[number]("transform"):
            return torch.stack([square.permute(1, 2, 0) for square in squares]).permute(0, 3, 1, 2)

    def square(self, payload: Payload, outcome: Outcome) -> list[torch.Tensor] | None:
        """One image decoded, so that only one is held in its own size at a time, and resized; None if it is damaged."""
        with self.watch("decode"):
            pixels = decode_payload(payload, outcome, self.trunks[0].spec)
        return None if pixels is None else self.prepared(pixels, outcome)

    def squares_by_gpu(
        self, payloads: list[Payload | None], outcomes: list[Outcome]
    ) -> list[list[torch.Tensor] | None]:
        """What nvJPEG decodes, resized on the GPU, a few files at a time; None for all else."""
        found: list[list[torch.Tensor] | None] = []
        for start in range(0, len(payloads), FILES_ON_GPU):
            part = payloads[start : start + FILES_ON_GPU]
            files = [payload if isinstance(payload, bytes) else b"" for payload in part]
            with self.watch("decode"):
                decoded = decode_on_gpu(files, self.device, self.trunks[0].spec)
            found += [
                None if pixels is None else self.prepared(pixels, outcome)
                for pixels, outcome in zip(decoded, outcomes[start:], strict=False)
            ]
        return found

    def prepared(self, pixels: torch.Tensor, outcome: Outcome) -> list[torch.Tensor]:
        """One image as each trunk takes it; what the whole of it tells is noted."""
        with self.watch("look"):
            if self.looking:
                outcome.seen(pixels)
        squares = []
        for trunk, watch in zip(self.trunks, self.watches, strict=True):
            with watch("transform"):
                square = trunk.prepare(pixels)
                squares.append(square.to(self.device) if self.by_gpu else square)
        return squares


def _stack_in_memory(payloads: list[Payload | None]) -> torch.Tensor | None:
    """Pixels of one size that came from memory, (n, 1 or 3, h, w) uint8; None where they are anything else."""
    pixels = [payload for payload in payloads if payload is not None]
    if not all(isinstance(image, np.ndarray) for image in pixels) or len({np.shape(image) for image in pixels}) != 1:
        return None
    return torch.stack([torch.from_numpy(decode(image)).permute(2, 0, 1) for image in pixels])


def _features(
    images: torch.Tensor, places: Sequence[int], raw: bool, trunk: Trunk, watch: Stopwatch
) -> list[NDArray[np.float16]]:
    """The trunk's features of any number of images, in parts that fit its device's memory.

    `places` are where they stood among those that were asked for: parts are cut by these, so that a trunk has the same
    batches whoever it shares images with. `raw` images are not resized yet: they go to the device as they are, and are
    replicated and resized there.
    """
    parts: list[list[NDArray[np.float16]]] = []
    done = 0
    while done < len(images):
        end = bisect_left(places, (places[done] // trunk.batch_images + 1) * trunk.batch_images)
        features = _try_forward(images[done:end], raw, trunk, watch)
        if features is None:
            _halve(trunk, end - done)
        else:
            parts.append(features)
            done = end
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
