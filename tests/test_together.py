"""Several equal runs at once on one `out`: each ends right, the work is done once, nothing is left half-written."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from features.storage import MARK
from tests.conftest import ROOT

TRUNK = "--backbone squeezenet1_1 --weights random --image-size 32 --device cpu"
TABLE = f"--dataset photos {TRUNK} --pool avg"
SCRATCH = "--backbone squeezenet1_1 --image-size 64 --device cpu"

STAGES = {
    "features": (f"features {TABLE} --node features.7,features", 2, ["features: .*, in "]),
    "compare": (
        f"compare {TABLE} --heads linear,knn --tune 2",
        5,
        ["features: .*, in ", "linear: 2 settings tried, in ", "linear: learnt", "knn: learnt"],
    ),
    "network": (f"finetune photos {TRUNK} --epochs 1", 2, ["network: learnt", "features: .*, in "]),
    "pretrain": (f"pretrain photos {SCRATCH} --epochs 1", 2, ["pretrain: learnt"]),
}
"""By stage the command, how often it runs at once, and what one of these runs alone remarks."""


@pytest.mark.slow
@pytest.mark.parametrize("stage", STAGES)
def test_equal_runs_at_once_share_the_work(stage: str, split_photos: Path, tmp_path: Path) -> None:
    command, count, once = STAGES[stage]
    split_photos.rename(tmp_path / "photos")
    program = [sys.executable, "-c", "from pipeline.cli import main; main()", *command.split()]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    runs = [
        subprocess.Popen(
            program, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for _ in range(count)
    ]
    said = [run.communicate() for run in runs]
    assert [run.returncode for run in runs] == [0] * count, said
    assert len({out for out, _ in said}) == 1
    remarks = "".join(err for _, err in said)
    assert {what: len(re.findall(f"^{what}", remarks, re.MULTILINE)) for what in once} == dict.fromkeys(once, 1)
    assert [path.name for path in (tmp_path / "artifacts").rglob(".*")] == [MARK]
