"""What `treehead bench features` measures of one network, in one process: rates in images a second.

Ours end to end comes first, so that the memory that is told is its own.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Barrier
from typing import Any

import torch
from torch.nn.functional import conv2d
from torch.utils.flop_counter import FlopCounterMode

from features.devices import PRECISIONS, has_cpu_bf16, resolve_device, to_device, to_host, worker_count
from features.extract import extract
from features.sources.decode import decode
from features.sources.options import SourceOptions
from features.sources.registry import open_source
from features.sources.source import Source
from features.trunk.engine import ONNXRUNTIME, TORCH
from features.trunk.loaded import open_network
from features.trunk.spec import RANDOM, TrunkOptions
from features.trunk.trunk import Trunk, build_trunk
from pipeline.bench.config import BenchFeaturesConfig
from pipeline.bench.textbook import extract_as_tutorials_do, tutorial_network
from pipeline.costs import peak_bytes

IN_MEMORY, FILES = "memory", "JPEG"
"""The kinds of images."""

OURS, FORWARD, LIMIT, TEXTBOOK = "ours, ", "forward alone, ", "limit by GEMM, ", "textbook, "
"""How names of rates begin: of what follows a kind of images, an engine or precision, a precision, a kind."""

EAGER, FP32 = "eager", "fp32"

PARTS = ("decode alone", "transform alone", "copy alone")
"""What else an image costs; there is no copy on the CPU."""

SCRIPT_IMAGES = 32
"""Images in a batch of a script that nobody has tuned."""

PARTS_OF = 128
"""Images of which decoding and transform are measured."""

MATRIX = 2048
"""Rows and columns of the matrices whose product is measured; larger ones are no faster."""

TEXTBOOK_NETWORK, TEXTBOOK_IMAGES = "alexnet", 256
"""Enough for the tutorials' way, which is slow."""

Step = Callable[[], float]
"""Takes some images through something; returns how many."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """One network, the sets by kind, and how they are measured."""

    network: str
    sets: dict[str, str]
    config: BenchFeaturesConfig


@dataclass(frozen=True, kw_only=True)
class Measured:
    """Images a second by what was measured; `flops` of one image; `peak_bytes` is the most memory that ours held."""

    rates: dict[str, float]
    flops: int
    peak_bytes: int


def measure(job: Job) -> Measured:
    """Do one job; meant for a process of its own."""
    config = job.config
    device, scratch = resolve_device(config.device), config.out / "bench"
    trunk, flops = _trunk(job, device), _flops(job.network)
    sources = {kind: _source(job, dataset) for kind, dataset in job.sets.items()}
    _ours(_first(sources[FILES], PARTS_OF), trunk, scratch)  # warms up, as each part is
    rates = {f"{OURS}{kind}": _ours(source, trunk, scratch) for kind, source in sources.items()}
    held = peak_bytes()
    for name, step, where in _alone(job, trunk, sources[FILES], flops):
        rates[name] = max(rates.get(name, 0), best_rate(step, where, config.seconds))
    if job.network == TEXTBOOK_NETWORK:
        rates[f"{TEXTBOOK}{FILES}"] = _textbook(sources[FILES], trunk, scratch)
    return Measured(rates=rates, flops=flops, peak_bytes=held)


def _trunk(job: Job, device: torch.device, **options: Any) -> Trunk:
    return build_trunk(TrunkOptions(backbone=job.network, weights=RANDOM, **options), device)


def _source(job: Job, dataset: str) -> Source:
    return _first(open_source(dataset, SourceOptions(data_dir=job.config.data_dir)), job.config.images)


def _first(source: Source, images: int) -> Source:
    return replace(source, items=source.items.iloc[:images])


def _flops(network: str) -> int:
    """Floating-point operations of one image, a multiplication and an addition counted as two."""
    loaded = open_network(TrunkOptions(backbone=network, weights=RANDOM))
    size = loaded.recipe.image_size
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        loaded.module(torch.zeros(1, 3, size, size))
    flops: int = counter.get_total_flops()  # it has no types
    return flops


def _ours(source: Source, trunk: Trunk, scratch: Path) -> float:
    with tempfile.TemporaryDirectory(dir=scratch) as folder:
        return _timed(source, lambda: extract(source, [trunk], Path(folder), max_bad=0, on_images=lambda _: None))


def _textbook(source: Source, trunk: Trunk, scratch: Path) -> float:
    source = _first(source, TEXTBOOK_IMAGES)
    network = tutorial_network(trunk.device)
    with tempfile.TemporaryDirectory(dir=scratch) as folder:
        csv = Path(folder, "features.csv")
        return _timed(source, lambda: extract_as_tutorials_do(source, trunk.spec, network, trunk.device, csv))


def _timed(source: Source, work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return len(source.items) / (time.perf_counter() - start)


def _alone(job: Job, trunk: Trunk, source: Source, flops: int) -> Iterator[tuple[str, Step, torch.device]]:
    """Each part of extraction by itself, and where it runs; of those of one name, the fastest counts."""
    device, cpu = trunk.device, torch.device("cpu")
    payloads = [source.read(int(row)) for row in source.items.index[:PARTS_OF]]
    pixels = [torch.from_numpy(decode(payload)).permute(2, 0, 1) for payload in payloads]
    for name, step in _forwards(job, device):
        yield f"{FORWARD}{name}", step, device
    for precision in _precisions(device):
        for step in _products(precision, device, flops):
            yield f"{LIMIT}{precision}", step, device
    yield PARTS[0], lambda: len([decode(payload) for payload in payloads]), cpu
    yield PARTS[1], lambda: len([trunk.prepare(image) for image in pixels]), cpu
    if device.type == "cuda":
        yield PARTS[2], lambda: _copy(trunk), device


def _precisions(device: torch.device) -> list[str]:
    """Those that the device computes in hardware, fp32 first."""
    if device.type == "cuda":
        return list(PRECISIONS)
    return [FP32, "bf16"] if has_cpu_bf16() else [FP32]


def _forwards(job: Job, device: torch.device) -> Iterator[tuple[str, Step]]:
    """The network on images that are there: as a script computes it, then in each precision and engine."""
    plain = open_network(TrunkOptions(backbone=job.network, weights=RANDOM))
    size = plain.recipe.image_size
    yield EAGER, _forward(plain.module.to(device), torch.rand(SCRIPT_IMAGES, 3, size, size, device=device), FP32)
    options: dict[str, dict[str, Any]] = {name: {"engine": TORCH, "precision": name} for name in _precisions(device)}
    options |= {"compiled": {"compiled": True}} if device.type == "cuda" else {ONNXRUNTIME: {"engine": ONNXRUNTIME}}
    for name, asked in options.items():
        trunk = _trunk(job, device, **asked)
        images = torch.rand(trunk.batch_images, 3, size, size, device=device)
        if trunk.spec.engine == TORCH:
            images = images.contiguous(memory_format=torch.channels_last)
        yield name, _forward(trunk.compute, images, trunk.spec.precision)


def _forward(compute: Callable[[torch.Tensor], object], images: torch.Tensor, precision: str) -> Step:
    def step() -> int:
        with (
            torch.inference_mode(),
            torch.autocast(images.device.type, PRECISIONS[precision], enabled=precision != FP32),
        ):
            compute(images)
        return len(images)

    return step


def _products(precision: str, device: torch.device, flops: int) -> Iterator[Step]:
    """A large matrix product by two libraries, as torch's first choice may be slow; returns the images it is worth."""
    left, right = (torch.rand(MATRIX, MATRIX, device=device).to(PRECISIONS[precision]) for _ in range(2))
    image, kernel = left.view(1, MATRIX, 1, MATRIX), right.view(MATRIX, MATRIX, 1, 1)

    def step(product: Callable[[torch.Tensor, torch.Tensor], torch.Tensor], *factors: torch.Tensor) -> float:
        with torch.inference_mode():
            product(*factors)
        return 2 * MATRIX**3 / flops

    yield lambda: step(torch.matmul, left, right)
    yield lambda: step(conv2d, image, kernel)


def _copy(trunk: Trunk) -> int:
    """A batch of images to the device and its features back."""
    size = trunk.spec.image_size
    to_device(torch.zeros(trunk.batch_images, size, size, 3, dtype=torch.uint8), trunk.device)
    to_host(torch.zeros(trunk.batch_images, trunk.dims[0], dtype=torch.float16, device=trunk.device))
    return trunk.batch_images


def best_rate(step: Step, device: torch.device, seconds: float) -> float:
    """The better of all cores on one batch and, on the CPU, a batch on each core."""
    workers = {1} if device.type == "cuda" else {1, worker_count(device)}
    return max(_rate(step, each, device, seconds) for each in sorted(workers))


def _rate(step: Step, workers: int, device: torch.device, seconds: float) -> float:
    """Repeat `step` for `seconds` in each of `workers` threads, which share the cores; images a second of all."""
    all_ready, threads = Barrier(workers), torch.get_num_threads()

    def repeat(_: int) -> float:
        torch.set_num_threads(max(1, threads // workers))
        step()  # warms up
        _synchronise(device)
        all_ready.wait()
        start, done = time.perf_counter(), 0.0
        while time.perf_counter() - start < seconds:
            done += step()
        _synchronise(device)
        return done / (time.perf_counter() - start)

    with ThreadPoolExecutor(workers) as pool:
        rates = list(pool.map(repeat, range(workers)))
    torch.set_num_threads(threads)
    return sum(rates)


def _synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
