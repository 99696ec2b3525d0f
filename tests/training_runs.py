"""What tests of pretraining and of fine-tuning share: a run's history, and a run that is killed."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from pathlib import Path

import torch

ROOT = Path(__file__).parent.parent

KILLED_IN_AN_EPOCH = """
import os, signal
from pipeline import cli
from pipeline.stages import training
def kill(advance):
    def on_step(pulse):
        if pulse.epoch == int(os.environ["EPOCH"]) and pulse.images > 18:
            os.kill(os.getpid(), signal.SIGKILL)
    return on_step
training._meter = kill
cli.main()
"""


def history(folder: Path) -> list[dict[str, str]]:
    """The epochs in a folder's history, without what depends on the clock."""
    with (folder / "history.csv").open(newline="") as file:
        return [{key: row[key] for key in row if "second" not in key} for row in csv.DictReader(file)]


def kill_in_epoch(epoch: int, *command: str) -> None:
    """Run a command of the command line until it has begun an epoch, then kill it."""
    threads = str(torch.get_num_threads())  # sums differ in their last bit with how many threads share them
    environment = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads, "EPOCH": str(epoch)}
    killed = subprocess.run(
        [sys.executable, "-c", KILLED_IN_AN_EPOCH, *command],
        env=os.environ | environment,
        check=False,
        capture_output=True,
        text=True,
    )
    assert killed.returncode == -9, killed.stderr
