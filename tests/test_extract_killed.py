"""An extraction that is killed at any moment."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.conftest import write_images
from tests.test_extract import contents

KILLS = 20


SLOW_RUN = """
import sys
from pathlib import Path
from features.table import shard
from features.extract import extract
from features.sources.registry import open_source
from tests.conftest import make_tiny_trunk

shard.LEAST_IMAGES, shard.LIKELY_IMAGES, shard.MOST_IMAGES = 10, 15, 40
photos, root = map(Path, sys.argv[1:3])
source = open_source(str(photos))
trunk = make_tiny_trunk("pool", "early", engine=sys.argv[3])
print("ready", flush=True)
extract(source, [trunk], root, max_bad=0.5, on_images=lambda _: None)
"""


def start_run(photos: Path, root: Path, engine: str) -> subprocess.Popen[str]:
    """Start the run above in another process; returns once it begins to extract."""
    process = subprocess.Popen(
        [sys.executable, "-c", SLOW_RUN, str(photos), str(root), engine],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parent.parent,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert process.stdout
    assert process.stdout.readline() == "ready\n"
    return process


def places(root: Path) -> list[Path]:
    """Every file and folder below `root`, hidden ones as well."""
    return sorted(path.relative_to(root) for path in root.rglob("*"))


@pytest.mark.slow
def test_killed_at_any_moment_it_ends_as_an_undisturbed_run(photos: Path, tmp_path: Path, engine: str) -> None:
    (photos / "red" / "cut.png").write_bytes((photos / "red" / "000.png").read_bytes()[:200])
    (photos / "red" / "notes").write_text("no image")
    for colour in ("red", "green", "blue"):
        write_images(photos / colour, colour, 360, start=100)
    process = start_run(photos, tmp_path / "undisturbed", engine)
    start = time.perf_counter()
    assert process.wait() == 0
    duration = time.perf_counter() - start
    undisturbed = places(tmp_path / "undisturbed"), contents(tmp_path / "undisturbed")
    moments = random.Random(0)
    kills = finished = 0
    for _ in range(10 * KILLS):
        root = tmp_path / f"killed-{finished}"
        process = start_run(photos, root, engine)
        try:
            assert process.wait(timeout=moments.uniform(0, duration / 4)) == 0
            finished += 1  # an earlier kill's run came to its end: the next starts afresh
            assert (places(root), contents(root)) == undisturbed
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
            kills += 1
        if kills == KILLS:
            break
    assert kills == KILLS
    assert start_run(photos, tmp_path / f"killed-{finished}", engine).wait() == 0
    root = tmp_path / f"killed-{finished}"
    assert (places(root), contents(root)) == undisturbed
