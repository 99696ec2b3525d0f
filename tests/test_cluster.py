"""Shards that the workers of a Ray cluster make, here of two nodes with a core each, on this machine."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import ray
import torch
from ray.cluster_utils import Cluster

from features.cluster import Room, make_on_ray
from features.errors import ClusterError
from features.extract import Extraction, extract
from features.sources.source import Payload, Source
from features.storage import SCRATCH
from features.table import shard
from features.trunk.trunk import Trunk
from features.worker import Job, Worker
from tests.clusters import NODE, two_nodes, wait_until
from tests.conftest import ROOT, Run, make_tiny_trunk, refused
from tests.test_extract import contents, photos_source

pytestmark = pytest.mark.servers


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with two_nodes() as cluster:
        yield cluster


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, count in {"LEAST_IMAGES": 10, "LIKELY_IMAGES": 15, "MOST_IMAGES": 40}.items():
        monkeypatch.setattr(shard, name, count)


def open_tiny(device: torch.device, *nodes: str) -> Sequence[Trunk]:
    return [make_tiny_trunk(*(nodes or ("pool", "early")))]


def run(source: Source, root: Path, cluster: Cluster | None = None, **options: Any) -> Extraction:
    """Make the tables in this process, or on a cluster."""
    if cluster:
        options["make"] = partial(make_on_ray, cluster.address, open_tiny)
    options = {"max_bad": 0.1, "on_images": lambda _: None, **options}
    return extract(source, open_tiny(torch.device("cpu")), root, **options)


def reading(source: Source, first: Any) -> Source:
    """The source, where `first` is called with each row before that is read."""

    def read(row: int) -> Payload:
        first(row)
        return source.read(row)

    return replace(source, read=read)


def test_tables_are_the_same_wherever_they_are_made(
    photos: Path, tmp_path: Path, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    (photos / "red" / "cut.png").write_bytes((photos / "red" / "000.png").read_bytes()[:200])
    monkeypatch.chdir(tmp_path)
    seen: list[int] = []
    here = run(photos_source(photos), tmp_path / "here")
    undisturbed = contents(tmp_path / "here")
    there = run(photos_source(Path(photos.name)), Path("there"), cluster, on_images=seen.append)
    assert contents(tmp_path / "there") == undisturbed
    assert [table.errors for table in there.tables] == [1, 1]
    assert there.extracted == here.extracted == sum(seen) == 121
    assert there.seconds["forward"] > 0


class Killer:
    """Kills the worker that reads one of `rows`, the first time; on a `node` that is given, the node itself.

    Workers on other nodes wait for that, so that they do not make its shards meanwhile.
    """

    def __init__(self, marks: Path, rows: Sequence[int], node: str = "", often: int = 1) -> None:
        self.marks, self.rows, self.node, self.often, self.driver = marks, rows, node, often, os.getpid()
        marks.mkdir()

    def __call__(self, row: int) -> None:
        if os.getpid() == self.driver or row not in self.rows:
            return
        if self.node and ray.get_runtime_context().get_node_id() != self.node:
            wait_until(lambda: (self.marks / "node").exists())
        elif self.node and not (self.marks / "node").exists():
            (self.marks / "node").touch()
            os.kill(os.getppid(), signal.SIGKILL)
            signal.pause()
        elif not self.node and len(list(self.marks.glob(f"{row}.*"))) < self.often:
            (self.marks / f"{row}.{os.getpid()}").touch()
            for table in (self.marks.parent / "there").iterdir():
                (table / f"{SCRATCH}{os.getpid()}").touch()  # as if it had been writing
            os.kill(os.getpid(), signal.SIGKILL)


def test_killed_workers_leave_no_trace(
    photos: Path, tmp_path: Path, cluster: Cluster, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    source = photos_source(photos)
    killer = Killer(tmp_path / "marks", [int(row) for row in source.items.index[[3, 90]]])
    run(reading(source, killer), tmp_path / "there", cluster)
    run(source, tmp_path / "here")
    assert contents(tmp_path / "there") == contents(tmp_path / "here")
    assert not list((tmp_path / "there").rglob(f"{SCRATCH}*"))
    assert len(list(killer.marks.iterdir())) == 2
    assert sum("a worker died (The actor is dead because its worker" in text for text in caplog.messages) == 2
    assert capsys.readouterr().out == ""


def test_a_shard_that_kills_whoever_makes_it_is_named(photos: Path, tmp_path: Path, cluster: Cluster) -> None:
    source = photos_source(photos)
    killer = Killer(tmp_path / "marks", [int(source.items.index[3])], often=9)
    with pytest.raises(
        ClusterError, match=r"^3 workers in a row died of shard 0 \(blue/000.png …\): The actor is dead"
    ):
        run(reading(source, killer), tmp_path / "there", cluster)
    assert len(list(killer.marks.iterdir())) == 3


def test_a_node_that_dies_leaves_no_trace_and_nothing_is_made_twice(
    photos: Path, tmp_path: Path, cluster: Cluster, caplog: pytest.LogCaptureFixture
) -> None:
    source = photos_source(photos)
    folders = [table.folder for table in run(source, tmp_path / "out").tables]
    undisturbed = contents(tmp_path / "out")
    kept = (folders[0] / "part-00001.parquet").stat().st_mtime_ns
    for folder in folders:
        (folder / "manifest.json").unlink()
        for path in set(folder.glob("part-*")) - {folders[0] / "part-00001.parquet"}:
            path.unlink()
    node = cluster.add_node(**NODE)
    try:
        killer = Killer(tmp_path / "marks", list(source.items.index[1:]), node=node.node_id)  # all read the first
        assert run(reading(source, killer), tmp_path / "out", cluster).extracted == 120
    finally:
        cluster.remove_node(node, allow_graceful=False)
    assert contents(tmp_path / "out") == undisturbed
    assert (folders[0] / "part-00001.parquet").stat().st_mtime_ns == kept
    assert any("a worker died" in text for text in caplog.messages)


DRIVER = """
import sys, time
from pathlib import Path
from features.table import shard
from tests.test_cluster import photos_source, reading, run

shard.LEAST_IMAGES, shard.LIKELY_IMAGES, shard.MOST_IMAGES = 10, 15, 40
address, photos, root = sys.argv[1:]

class There:
    pass

There.address = address
run(reading(photos_source(Path(photos)), lambda _: time.sleep(0.1)), Path(root), There)
"""


def test_workers_end_with_the_command_and_the_next_one_goes_on(photos: Path, tmp_path: Path, cluster: Cluster) -> None:
    command = [sys.executable, "-c", DRIVER, cluster.address, str(photos), str(tmp_path / "out")]
    driver = subprocess.Popen(command, cwd=ROOT)
    wait_until(lambda: len(list(tmp_path.glob("out/*/part-*"))) > 2)
    driver.kill()
    driver.wait()
    wait_until(lambda: not workers())
    left = contents(tmp_path / "out")
    assert not any(name.endswith("manifest.json") for name in left)
    source = photos_source(photos)
    assert 0 < run(source, tmp_path / "out", cluster).extracted < 120
    run(source, tmp_path / "here")
    assert contents(tmp_path / "out") == contents(tmp_path / "here")


def workers() -> list[Path]:
    """Processes that make shards."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            if b"ray::Worker" in path.read_bytes():
                found.append(path)
    return found


def test_a_worker_that_cannot_read_the_images_says_so(photos: Path, tmp_path: Path, cluster: Cluster) -> None:
    driver = os.getpid()

    def gone(_: int) -> None:
        if os.getpid() != driver:
            raise FileNotFoundError(2, "No such file or directory")

    expected = r"^the worker on \S+ cannot read blue/000.png \(No such file or directory\): give images that all nodes"
    with pytest.raises(ClusterError, match=expected):
        run(reading(photos_source(photos), gone), tmp_path / "out", cluster)


def node(alive: bool = True, **has: float) -> dict[str, Any]:
    return {"Alive": alive, "Resources": has}


def test_there_is_a_worker_for_four_cores_or_for_a_gpu() -> None:
    nodes = [node(CPU=8), node(CPU=64, GPU=2), node(), node(CPU=16, GPU=4), node(False, CPU=999, GPU=9)]
    assert Room.of(nodes, "cpu") == Room(workers=22, cores=4)
    assert Room.of([*nodes, node(CPU=2)], "cpu") == Room(workers=45, cores=2)
    assert Room.of(nodes, "cuda") == Room(workers=6, cores=4, gpus=1)
    for device, less in {"cpu": [node(), node(False, CPU=1)], "cuda": [node(CPU=64)]}.items():
        with pytest.raises(ClusterError, match=f"the cluster has no {device} to work on: add nodes, or give another"):
            Room.of(less, device)


@pytest.fixture
def worker(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Worker]:
    """A worker in this process."""
    monkeypatch.chdir(tmp_path)  # which it changes
    threads = torch.get_num_threads()
    yield Worker(threads)
    logging.getLogger("features").handlers.clear()


@pytest.fixture
def job(photos: Path) -> Job:
    return Job(
        source=photos_source(photos),
        open_trunks=open_tiny,
        specs=[make_tiny_trunk("pool", "early").specs],
        device="cpu",
        started_in="/",
        folders=[photos],
        known=None,
    )


def test_a_worker_says_what_is_not_the_same_where_it_is(worker: Worker, job: Job, tmp_path: Path) -> None:
    worker.open(job)
    with pytest.raises(ClusterError, match=r"the worker on \S+ does not see /\S+/absent: give an `out` that all nodes"):
        worker.open(replace(job, folders=[tmp_path / "absent"]))
    with pytest.raises(ClusterError, match=r"reads another image as red/000.png: give images that all nodes reach"):
        worker.open(replace(job, known=(0, "red/000.png", "0" * 64)))
    others = [tuple(replace(spec, precision="bf16") for spec in job.specs[0])]
    expected = r"makes other features of tiny \(precision is 'fp32' there and 'bf16' where the command runs\): run"
    with pytest.raises(ClusterError, match=expected):
        worker.open(replace(job, specs=others))


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("features", "--on", "ray", "--address", "nowhere"), "--address nowhere came, but no Ray cluster could be"),
        (("features", "--on", "ray", "--address", "localhost:1"), "could be joined ([Errno 111] Connection refused)"),
        (("features", "--address", "auto"), "--address auto came without --on ray: add it"),
        (
            ("xgb", "--on", "ray", "--tune", "9"),
            "--on ray came, but --tune tries settings on one machine: leave it out",
        ),
        (("curve", "--on", "ray"), "--on ray came, but the curve is drawn on one machine: leave it out"),
        (("inspect", "--on", "ray"), "--on ray came, but images are compared with one another on one machine"),
        (("compare", "--on", "ray", "--heads", "xgb,network"), "--on ray came, but a network learns on one machine"),
        (("finetune", "--on", "ray"), "--on ray came, but a network learns on one machine: leave it out"),
        (("pretrain", "--on", "ray"), "--on ray came, but a network learns on one machine: leave it out"),
    ],
)
def test_what_cannot_be_on_a_cluster_is_one_line(
    arguments: tuple[str, ...], expected: str, treehead: Run, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command, *rest = arguments
    assert expected in refused(treehead, capsys, command, photos, *rest, "--backbone", "squeezenet1_1")


def test_ray_is_an_extra(
    treehead: Run, photos: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "features.cluster", None)
    line = refused(treehead, capsys, "features", photos, "--on", "ray", "--backbone", "squeezenet1_1")
    assert line == "treehead: --on ray came, but there is no Ray here: pip install 'treehead[ray]'"
