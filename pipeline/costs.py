"""Where an extraction's time and memory went, in one line."""

from __future__ import annotations

import resource
from collections.abc import Mapping

import torch

from features.stopwatch import STAGES

ADVICE = {
    "read": "a faster disk",
    "decode": "more cores, smaller files, or on a GPU --decoder nvjpeg",
    "transform": "more cores, or images nearer to the size that the network sees",
    "forward": "a GPU, a smaller --image-size, an earlier --node or a lighter --backbone",
    "copy": "a coarser --pool",
    "write": "a coarser --pool or a faster disk",
}
"""What makes each stage quicker."""


def spent(seconds: Mapping[str, float], device: torch.device) -> str:
    """The share of each stage in the threads' time, the largest and what would help, and the most memory held."""
    total = sum(seconds.values()) or 1
    shares = ", ".join(f"{stage} {seconds.get(stage, 0) / total:.0%}" for stage in STAGES)
    slowest = max(STAGES, key=lambda stage: seconds.get(stage, 0))
    advice = "--precision bf16, --compile" if (slowest, device.type) == ("forward", "cuda") else ADVICE[slowest]
    return f"  time: {shares}; the bottleneck is {slowest}: {advice} would help; at most {peak_memory(device)}"


def peak_memory(device: torch.device) -> str:
    """The most memory that this process has held, and on a GPU there."""
    held = f"{peak_bytes() / 2**30:.1f} GiB of memory"
    if device.type == "cuda":
        held += f", {torch.cuda.max_memory_allocated(device) / 2**30:.1f} GiB on the GPU"
    return held


def peak_bytes() -> int:
    """The most memory that this process has held in RAM, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024  # Linux counts in KiB
