"""Where an extraction's time and memory went, in one line."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

import torch

from features.devices import forwards_at_once, worker_count, writer_count
from features.timing import STAGES

ADVICE = {
    "read": "a faster disk",
    "decode": "more cores, smaller files, or on a GPU --decoder nvjpeg",
    "look": "more cores",
    "transform": "more cores, or images nearer to the size that the network sees",
    "forward": "a GPU, a smaller --image-size, an earlier --node or a lighter --backbone",
    "copy": "a coarser --pool",
    "write": "a coarser --pool or a faster disk",
}
"""What makes each stage quicker."""


def spent(seconds: Mapping[str, float], device: torch.device) -> str:
    """The share of each stage in the threads' time, the one that set the pace, what would help, and the most memory."""
    total = sum(seconds.values()) or 1
    shares = ", ".join(f"{stage} {seconds.get(stage, 0) / total:.0%}" for stage in STAGES)
    slowest = max(STAGES, key=lambda stage: seconds.get(stage, 0) / _at_once(stage, device))
    advice = "--precision bf16, --compiled" if (slowest, device.type) == ("forward", "cuda") else ADVICE[slowest]
    return f"time: {shares}; the bottleneck is {slowest}: {advice} would help; at most {peak_memory(device)}"


def _at_once(stage: str, device: torch.device) -> int:
    """How many threads may be in `stage` at the same time."""
    if stage == "write":
        return writer_count(device)
    return forwards_at_once(device) if stage in ("forward", "copy") else worker_count(device)


def peak_memory(device: torch.device) -> str:
    """The most memory that this process has held, and on a GPU there."""
    held = f"{peak_bytes() / 2**30:.1f} GiB of memory"
    if device.type == "cuda":
        held += f", {torch.cuda.max_memory_reserved(device) / 2**30:.1f} GiB on the GPU"
    return held


def peak_bytes() -> int:
    """The most memory that this process has held in RAM, in bytes; 0 where the system does not tell, as on Windows."""
    try:  # getrusage would count its parent's as well
        return 1024 * int(Path("/proc/self/status").read_text(encoding="ascii").partition("VmHWM:")[2].split()[0])
    except (OSError, IndexError):
        pass
    try:
        import resource
    except ImportError:
        return 0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
