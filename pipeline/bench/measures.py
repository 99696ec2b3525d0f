"""What `treehead bench features` measures: each in a process of its own, over the same images, as images a second."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Barrier

import numpy as np
import pandas as pd
import torch

from features.devices import PRECISIONS, resolve_device, to_device, to_host, worker_count
from features.extract import extract, table_specs
from features.sources.decode import decode
from features.sources.options import SourceOptions
from features.sources.registry import open_source
from features.sources.source import Source
from features.table.shard import name_shards, write_shard
from features.trunk.spec import RANDOM, TrunkOptions
from features.trunk.trunk import Trunk, build_trunk
from pipeline.bench.textbook import extract_as_tutorials_do, tutorial_network
from pipeline.costs import peak_bytes

WRITTEN_ROWS = 1024

FIVE_DEPTHS = "ours, five depths"


@dataclass(frozen=True, kw_only=True)
class Job:
    """One measurement: which, on which images, and the trunk's settings."""

    what: str
    node: str | None
    dataset: str
    data_dir: Path
    images: int
    device: str
    precision: str
    seconds: float
    scratch: Path


@dataclass(frozen=True, kw_only=True)
class Measured:
    """Images a second, and the most memory that the process held, in bytes."""

    rate: float
    peak_bytes: int


def measure(job: Job) -> Measured:
    """Do one job; meant for a process of its own."""
    source = open_source(job.dataset, SourceOptions(data_dir=job.data_dir))
    source = replace(source, items=source.items.iloc[: job.images])
    options = TrunkOptions(backbone="alexnet", weights=RANDOM, node=job.node, precision=job.precision)
    trunk = build_trunk(options, resolve_device(job.device))
    with tempfile.TemporaryDirectory(dir=job.scratch) as scratch:
        rate = MEASURES[job.what](source, trunk, replace(job, scratch=Path(scratch)))
    return Measured(rate=rate, peak_bytes=peak_bytes())


def _ours(source: Source, trunk: Trunk, job: Job) -> float:
    return _timed(source, lambda: extract(source, [trunk], job.scratch, max_bad=0, on_images=lambda _: None))


def _textbook_csv(source: Source, trunk: Trunk, job: Job) -> float:
    network, csv = tutorial_network(trunk.device), job.scratch / "features.csv"
    return _timed(source, lambda: extract_as_tutorials_do(source, trunk.spec, network, trunk.device, csv))


def _textbook(source: Source, trunk: Trunk, _: Job) -> float:
    network = tutorial_network(trunk.device)
    return _timed(source, lambda: extract_as_tutorials_do(source, trunk.spec, network, trunk.device, None))


def _forward(_: Source, trunk: Trunk, job: Job) -> float:
    """The network alone on images that are there: the better of all cores on one batch and a batch on each core."""
    size = (trunk.batch_images, 3, trunk.spec.image_size, trunk.spec.image_size)
    dtype = PRECISIONS[trunk.spec.precision]

    def step() -> int:
        with torch.inference_mode(), torch.autocast(trunk.device.type, dtype, enabled=dtype != torch.float32):
            trunk.compute(batch)
        return len(batch)

    batch = torch.rand(size, device=trunk.device).contiguous(memory_format=torch.channels_last)
    together = _rate(step, 1, trunk.device, job.seconds)
    if trunk.device.type == "cuda":
        return together
    return max(together, _rate(step, worker_count(trunk.device), trunk.device, job.seconds))


def _decode(source: Source, trunk: Trunk, job: Job) -> float:
    payloads = [source.read(int(row)) for row in source.items.index[:200]]

    def step() -> int:
        for payload in payloads:
            decode(payload)
        return len(payloads)

    return _rate(step, worker_count(trunk.device), trunk.device, job.seconds)


def _transform(source: Source, trunk: Trunk, job: Job) -> float:
    pixels = [torch.from_numpy(decode(source.read(int(row)))).permute(2, 0, 1) for row in source.items.index[:200]]

    def step() -> int:
        for image in pixels:
            trunk.prepare(image)
        return len(pixels)

    return _rate(step, worker_count(trunk.device), trunk.device, job.seconds)


def _copy(_: Source, trunk: Trunk, job: Job) -> float:
    """Images to the device and features back."""
    size = trunk.spec.image_size
    images = torch.zeros(trunk.batch_images, size, size, 3, dtype=torch.uint8).permute(0, 3, 1, 2)
    features = torch.zeros(trunk.batch_images, trunk.dims[0], dtype=torch.float16, device=trunk.device)

    def step() -> int:
        to_device(images, trunk.device)
        to_host(features)
        return len(images)

    return _rate(step, 1, trunk.device, job.seconds)


def _write(source: Source, trunk: Trunk, job: Job) -> float:
    """Shards to disk, features as sparse as the trunk's."""
    (spec,) = table_specs(source, trunk)
    items = pd.concat([source.items] * (WRITTEN_ROWS // len(source.items) + 1), ignore_index=True).iloc[:WRITTEN_ROWS]
    (shard,) = name_shards(spec, [items])
    noise = np.random.default_rng(0).standard_normal((WRITTEN_ROWS, spec.dim), np.float32)
    features = np.maximum(noise - 0.8, 0).astype(np.float16)
    sha256 = pd.Series("0" * 64, index=items.index)

    def step() -> int:
        write_shard(job.scratch / shard.name, spec, shard, sha256, features, [])
        return WRITTEN_ROWS

    return _rate(step, 1, trunk.device, job.seconds)


MEASURES: dict[str, Callable[[Source, Trunk, Job], float]] = {
    "ours": _ours,
    FIVE_DEPTHS: _ours,
    "textbook, CSV": _textbook_csv,
    "textbook, nothing written": _textbook,
    "forward alone": _forward,
    "decode alone": _decode,
    "transform alone": _transform,
    "copy alone": _copy,
    "write alone": _write,
}


def _timed(source: Source, work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return len(source.items) / (time.perf_counter() - start)


def _rate(step: Callable[[], int], workers: int, device: torch.device, seconds: float) -> float:
    """Repeat `step`, which returns its images, for `seconds` in each of `workers` threads; images a second of all."""
    all_ready = Barrier(workers)

    def repeat(_: int) -> float:
        if workers > 1:
            torch.set_num_threads(1)
        step()  # warms up
        _synchronise(device)
        all_ready.wait()
        start = time.perf_counter()
        done = 0
        while time.perf_counter() - start < seconds:
            done += step()
        _synchronise(device)
        return done / (time.perf_counter() - start)

    with ThreadPoolExecutor(workers) as pool:
        return sum(pool.map(repeat, range(workers)))


def _synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
