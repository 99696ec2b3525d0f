"""Where an extraction's time goes."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch

STAGES = ("read", "decode", "look", "transform", "forward", "copy", "write")


class Stopwatch:
    """Adds up the seconds that one thread spends in each of STAGES, the GPU's part of them included."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.seconds = dict.fromkeys(STAGES, 0.0)

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        """Count what happens inside as `stage`."""
        start = time.perf_counter()
        try:
            yield
        finally:
            if self.device.type == "cuda":
                torch.cuda.current_stream(self.device).synchronize()
            self.seconds[stage] += time.perf_counter() - start


def added(*parts: Mapping[str, float]) -> dict[str, float]:
    """The seconds of each stage in all `parts` together.

    >>> added({"read": 1.0}, {"read": 0.5, "write": 2.0})["read"]
    1.5
    """
    return {stage: sum(part.get(stage, 0.0) for part in parts) for stage in STAGES}
