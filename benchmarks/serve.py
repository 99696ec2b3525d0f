"""What serving costs: latency of one image beside the network's alone, and what many clients get of the engine's rate.

The server is a process of its own, and so shares this machine's cores with the clients.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from urllib.parse import urlsplit

import numpy as np
import onnxruntime
import torch
import uvloop

from benchmarks.config import BenchServeConfig
from features.devices import exact_float32
from features.sources.decode import decode
from features.sources.files import IMAGE_SUFFIX
from features.sources.folders import files_below
from features.trunk.trunk import Trunk
from pipeline.bench.common import ratio
from pipeline.bench.measures import best_rate
from pipeline.classifier_config import ClassifierConfig, ExportConfig
from pipeline.console import remark, result, result_table
from pipeline.errors import PipelineError
from pipeline.export import standalone
from pipeline.stages.export import run_export
from pipeline.stages.predict import Predictor, open_predictor

LEAST_SHARE = 0.8
"""Of the engine's batch forward that the server's images a second should reach."""

REQUEST = b"POST /predict HTTP/1.1\r\nhost: localhost\r\ncontent-type: image/jpeg\r\ncontent-length: %d\r\n\r\n"


def run_bench_serve(model: Path, photos: Path, config: BenchServeConfig) -> None:
    """Measure and print tables; leaves with 1 where a request is lost or the server reaches too little."""
    paths = [path for path in files_below(photos) if IMAGE_SUFFIX.fullmatch(path.suffix)][: config.images]
    contents = [path.read_bytes() for path in paths]
    predictor = open_predictor(model, ClassifierConfig(device="cpu"))
    trunks, exported = predictor.trunks, _exported(model)
    with _served(model) as server:
        _show_latency(server, predictor, exported, paths)
        rounds = [_round(server, trunks, contents, config) for _ in range(config.rounds)]
        finished = uvloop.run(_stopped(server, contents[0], config.clients))
    sent, seconds = sum(load.sent for load, _ in rounds), [each for load, _ in rounds for each in load.seconds]
    loads, alone = [load for load, _ in rounds], [forward for _, forward in rounds]
    wall = ratio([load.rate for load in loads], [forward.rate for forward in alone])
    cpu = ratio([forward.cpu for forward in alone], [load.cpu for load in loads])
    rows = [
        ("requests", f"{sent:,}"),
        ("of them lost", f"{sent - len(seconds):,}"),
        ("median ms", f"{1000 * np.quantile(seconds, 0.5):.0f}"),
        ("p99 ms", f"{1000 * np.quantile(seconds, 0.99):.0f}"),
        ("images/s", f"{median(load.rate for load in loads):.1f}"),
        ("forward alone, images/s", f"{median(forward.rate for forward in alone):.1f}"),
        ("share of it", f"{wall:.2f}"),
        ("CPU ms an image", f"{1000 * median(load.cpu for load in loads):.2f}"),
        ("forward alone, CPU ms an image", f"{1000 * median(forward.cpu for forward in alone):.2f}"),
        ("share by CPU time", f"{cpu:.2f}"),
        ("answered of those that ran at SIGTERM", f"{finished} of {config.clients}"),
        ("exit code", str(server.process.returncode)),
    ]
    result_table(("", f"{config.clients} clients, {config.rounds} × {config.seconds:.0f} s"), rows)
    _check(
        {
            f"{sent - len(seconds)} requests were lost": sent == len(seconds),
            f"{wall:.2f} of the forward alone is less than {LEAST_SHARE}": wall >= LEAST_SHARE,
            "SIGTERM did not let what ran finish": (finished, server.process.returncode) == (config.clients, 0),
        }
    )


def _check(lines: Mapping[str, bool]) -> None:
    failed = [line for line, holds in lines.items() if not holds]
    for line in failed:
        result(f"failed: {line}")
    if failed:
        sys.exit(1)


@dataclass(frozen=True, kw_only=True)
class Server:
    """A server that runs, and where."""

    process: subprocess.Popen[str]
    host: str
    port: int

    def cpu_seconds(self) -> float:
        """What it has computed so far; Linux tells."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text(encoding="ascii").rpartition(") ")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def _served(model: Path) -> Iterator[Server]:
    command = [sys.executable, "-c", "from pipeline.cli import main; main()", "serve", str(model), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            address = urlsplit(process.stdout.readline().strip())
            if not address.port:
                raise PipelineError("the server did not start")
            yield Server(process=process, host=str(address.hostname), port=address.port)
        finally:
            process.terminate()


def _predicted(predictor: Predictor, path: Path) -> None:
    (prediction,) = predictor.predict([[path]])
    if prediction.error:
        raise PipelineError(f"{path} could not be read: {prediction.error}")


def _exported(model: Path) -> Callable[[Path], object]:
    """What `predict.py` beside an export says of an image; raises ExportError where there is no export."""
    with TemporaryDirectory() as folder:
        run_export(model, ExportConfig(out=Path(folder, "model.onnx")))
        session = onnxruntime.InferenceSession(Path(folder, "model.onnx"), providers=["CPUExecutionProvider"])
    return lambda path: session.run(["probabilities"], {"images": np.asarray(standalone.read(str(path)))[None]})


def _show_latency(
    server: Server, predictor: Predictor, exported: Callable[[Path], object], paths: Sequence[Path]
) -> None:
    """Seconds of one image, in turn: the networks alone, and by each way that a class is told."""
    connection = http.client.HTTPConnection(server.host, server.port)

    def ask(content: bytes) -> None:
        connection.request("POST", "/predict", content, {"content-type": "image/jpeg"})
        answer = connection.getresponse()
        if answer.status != 200:
            raise PipelineError(f"the server answered {answer.status}: {answer.read().decode()}")
        answer.read()

    trunks = predictor.trunks
    names = ("forward alone", "treehead predict", "predict.py", "serve")
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for path in paths:
        content = path.read_bytes()
        square = torch.from_numpy(decode(content)).permute(2, 0, 1)
        squares = [trunk.prepare(square)[None] for trunk in trunks]
        ways: list[Callable[[], object]] = [
            partial(_forward, trunks, squares),
            partial(_predicted, predictor, path),
            partial(exported, path),
            partial(ask, content),
        ]
        for name, way in zip(seconds, ways, strict=True):
            start = time.perf_counter()
            way()
            seconds[name].append(time.perf_counter() - start)
    alone = median(seconds["forward alone"])
    rows = [(name, f"{1000 * median(each):.1f}", f"{median(each) / alone:.2f}") for name, each in seconds.items()]
    result_table(("one image", "median ms", "ratio"), rows)


@dataclass(frozen=True, kw_only=True)
class Forward:
    """Images a second through all networks, and CPU seconds that one takes."""

    rate: float
    cpu: float


@dataclass(frozen=True, kw_only=True)
class Load:
    """Requests that were sent, and the seconds that each took that was answered.

    `rate` is in images a second, `cpu` in seconds that the server computes for one.
    """

    sent: int
    seconds: Sequence[float]
    rate: float
    cpu: float


def _round(
    server: Server, trunks: Sequence[Trunk], contents: Sequence[bytes], config: BenchServeConfig
) -> tuple[Load, Forward]:
    """Both, one after the other: so they meet about as much of what else runs here."""
    return uvloop.run(_load(server, contents, config)), _forward_alone(trunks, config.seconds)


def _forward_alone(trunks: Sequence[Trunk], seconds: float) -> Forward:
    """The engine's batches, one on each core, without reading, head or anything else."""
    size = min(trunk.batch_images for trunk in trunks)
    shapes = [(size, trunk.spec.image_size, trunk.spec.image_size, 3) for trunk in trunks]
    batches = [torch.randint(0, 256, shape, dtype=torch.uint8).permute(0, 3, 1, 2) for shape in shapes]
    done, start = 0, time.process_time()

    def step() -> int:
        nonlocal done
        _forward(trunks, batches)
        done += size
        return size

    with exact_float32():
        rate = best_rate(step, trunks[0].device, seconds / 2)
    return Forward(rate=rate, cpu=(time.process_time() - start) / done)


def _forward(trunks: Sequence[Trunk], images: Sequence[torch.Tensor]) -> None:
    for trunk, part in zip(trunks, images, strict=True):
        trunk.forward(part)


async def _load(server: Server, contents: Sequence[bytes], config: BenchServeConfig) -> Load:
    """Clients that each ask for one image after the other."""
    seconds: list[float] = []
    sent = 0
    start, computed = time.perf_counter(), server.cpu_seconds()

    async def client(number: int) -> None:
        nonlocal sent
        reader, writer = await asyncio.open_connection(server.host, server.port)
        while time.perf_counter() - start < config.seconds:
            asked, number = time.perf_counter(), number + 1
            sent += 1
            if await _ask(reader, writer, contents[number % len(contents)]):
                seconds.append(time.perf_counter() - asked)
        writer.close()

    await asyncio.gather(*(client(number * len(contents) // config.clients) for number in range(config.clients)))
    rate, cpu = len(seconds) / (time.perf_counter() - start), (server.cpu_seconds() - computed) / len(seconds)
    return Load(sent=sent, seconds=seconds, rate=rate, cpu=cpu)


async def _stopped(server: Server, content: bytes, clients: int) -> int:
    """How many requests are answered that run while SIGTERM comes."""
    connections = [await asyncio.open_connection(server.host, server.port) for _ in range(clients)]
    asked = [asyncio.create_task(_ask(reader, writer, content)) for reader, writer in connections]
    await asyncio.wait(asked, return_when=asyncio.FIRST_COMPLETED)
    server.process.send_signal(signal.SIGTERM)
    answered = await asyncio.gather(*asked)
    for _, writer in connections:
        writer.close()
    await asyncio.to_thread(server.process.wait)
    remark(f"stopped by SIGTERM while {clients} requests ran")
    return sum(answered)


async def _ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, content: bytes) -> bool:
    """Whether an image is answered by a class."""
    try:
        writer.write(REQUEST % len(content) + content)
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        length = int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0])
        return head.startswith(b"http/1.1 200") and "images" in json.loads(await reader.readexactly(length))
    except (OSError, asyncio.IncompleteReadError):
        return False
