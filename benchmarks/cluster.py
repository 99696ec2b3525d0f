"""Features made by two one-core nodes of a Ray cluster on this machine: their rate beside the same cores' without Ray.

And how far heads are apart that learn here and there, and whether tables are the same, byte for byte, while workers,
nodes and the command itself are killed.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ray.cluster_utils import Cluster

from benchmarks.cluster_heads import compare_heads
from benchmarks.config import BenchClusterConfig
from features.cluster import make_on_ray
from features.errors import some
from features.extract import extract
from features.making import Make, make_shards
from features.storage import file_sha256
from features.table.joined import JoinedTable
from features.table.manifest import MANIFEST
from features.table.table import FeatureTable
from features.timing import TIMING
from features.trunk.trunk import build_trunks
from pipeline.bench.common import ratio
from pipeline.console import remark, result, result_table
from pipeline.errors import PipelineError
from pipeline.stages.opened import Opened
from pipeline.stages.tables import open_run

NODE: dict[str, Any] = {"num_cpus": 1, "object_store_memory": 2**28, "include_dashboard": False}

LEAST_SHARE = 0.9
"""Two nodes must make this much of what one process makes of the same cores."""

Files = dict[str, str]
"""SHA-256 by the path of each file that is the same wherever it is made."""


def run_bench_cluster(config: BenchClusterConfig) -> None:
    """Measure, kill and print."""
    opened = open_run(config.features)
    with TemporaryDirectory(dir=config.features.run.out.parent) as folder, _cluster() as cluster:
        root = Path(folder)
        there: Make = partial(
            make_on_ray, cluster.address, partial(build_trunks, opened.trunk, seed=config.features.run.seed)
        )
        makes: dict[str, Make] = {"here": make_shards, "two nodes": there}
        rates: dict[str, list[float]] = {name: [] for name in makes}
        for number in range(config.rounds):
            for name, make in makes.items():
                rates[name].append(_rate(opened, root / f"{name} {number}", make))
                remark(f"{name}: {rates[name][-1]:.1f} images/s")
        expected = files(root / "here 0")
        if any(files(each) != expected for each in root.iterdir()):
            raise PipelineError("two nodes made another table than this process")
        rows = [(name, ", ".join(f"{rate:.1f}" for rate in each)) for name, each in rates.items()]
        result_table(("", "images/s"), rows, title=f"{len(opened.source.items):,} images, {len(expected)} files alike")
        share = ratio(rates["two nodes"], rates["here"])
        result(f"two nodes make {share:.2f} times what this process does")
        broken = [f"two nodes make {share:.2f} times, expected {LEAST_SHARE}"] if share < LEAST_SHARE else []
        tables = JoinedTable([FeatureTable.open(each.parent) for each in sorted((root / "here 0").rglob(MANIFEST))])
        broken += compare_heads(tables, cluster.address, config.features.run.seed)
        _Campaign(config, cluster, root / "killed").run(expected)
    for line in broken:
        result(line)
    if broken:
        sys.exit(1)


def files(root: Path) -> Files:
    """All files below a folder but for how long it took to make them."""
    paths = (path for path in root.rglob("*") if path.is_file() and path.name not in (TIMING, ".treehead"))
    return {path.name: file_sha256(path) for path in paths}


@contextmanager
def _cluster() -> Iterator[Cluster]:
    """A head that does no work, and two nodes with a core each."""
    cluster = Cluster(initialize_head=True, head_node_args={**NODE, "num_cpus": 0})
    try:
        for _ in range(2):
            cluster.add_node(**NODE)
        yield cluster
    finally:
        cluster.shutdown()  # type: ignore[no-untyped-call]


def _rate(opened: Opened, root: Path, make: Make) -> float:
    """Images a second from when the first are done, so that it does not count how long workers take to begin."""
    heard: list[tuple[float, int]] = []
    trunks = build_trunks(opened.trunk, opened.device)
    extract(
        opened.source,
        trunks,
        root,
        max_bad=1,
        on_images=lambda count: heard.append((time.perf_counter(), count)),
        make=make,
    )
    heard = [(at, count) for at, count in heard if count]
    return sum(count for _, count in heard[1:]) / (heard[-1][0] - heard[0][0])


class _Campaign:
    """The command run again and again while something of it is killed every few seconds."""

    def __init__(self, config: BenchClusterConfig, cluster: Cluster, root: Path) -> None:
        self.config, self.cluster, self.root = config, cluster, root
        self.moments = random.Random(config.features.run.seed)
        self.left = Counter(worker=config.workers, node=config.nodes, command=config.commands)
        self.done: Counter[str] = Counter()
        self.runs = 0

    def run(self, expected: Files) -> None:
        """Kill until nothing is left to be killed, and see that each table is the one that is expected."""
        while +self.left:
            command = self._start()
            while command.poll() is None:
                with suppress(subprocess.TimeoutExpired):
                    command.wait(self.moments.uniform(0.5, 1.5) * self.config.every)
                if command.poll() is None and +self.left:
                    self._kill(command)
            if command.returncode == -signal.SIGKILL:
                continue  # the next run goes on from here
            found = files(self.root / f"{self.runs}" / "features")
            if command.returncode or found != expected:
                others = sorted({name for name, _ in found.items() ^ expected.items()})
                raise PipelineError(f"run {self.runs} ended with {command.returncode}; other files: {some(others)}")
            self.runs += 1
            remark(f"table {self.runs} is the same; killed by now: {dict(self.done)}")
        said = ", ".join(f"{count} kills of a {name}" for name, count in self.done.items())
        if said:
            result(f"{self.runs} tables are the same, byte for byte, after {said}")

    def _start(self) -> subprocess.Popen[bytes]:
        options = self.config.arguments(replace(self.config.features.run, out=self.root / f"{self.runs}"))
        program = [sys.executable, "-c", "from pipeline.cli import main; main()", "features", *options]
        return subprocess.Popen([*program, "--on", "ray", "--address", self.cluster.address], stdout=subprocess.DEVNULL)

    def _kill(self, command: subprocess.Popen[bytes]) -> None:
        if not (found := workers()):
            return  # they are still starting
        name = self.moments.choice(list((+self.left).elements()))
        if name == "worker":
            with suppress(ProcessLookupError):
                os.kill(self.moments.choice(found), signal.SIGKILL)
        elif name == "node":
            node = self.moments.choice(list(self.cluster.worker_nodes))
            self.cluster.remove_node(node, allow_graceful=False)
            self.cluster.add_node(**NODE)
        else:
            command.kill()
            command.wait()
        self.left[name] -= 1
        self.done[name] += 1


def workers(at: str = "Worker.make") -> list[int]:
    """The processes that are making shards, or `at` something else, by what Ray calls them then."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            if path.read_bytes().startswith(f"ray::{at}".encode()):
                found.append(int(path.parent.name))
    return found
