"""Where an extraction's time goes, and how long it took to make a table.

That stands apart from the table's manifest, which is the same wherever the table is made.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch

from features.storage import from_json, read_json, write_json

TIMING = "timing.json"

STAGES = ("read", "decode", "look", "transform", "forward", "copy", "write")

SHARED = ("read", "decode", "look")
"""The stages that images go through once, however many networks they are for."""


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


@dataclass(frozen=True, kw_only=True)
class Timing:
    """`images` went through the network in `seconds`, in which all threads together spent those of `stages`.

    Where they went through other networks as well, it is what threads spent on this one, and on what all need, that
    counts. All runs that a table took are added up, with what a killed one did in vain and the next one again; `device`
    is that of the last.
    """

    images: int
    seconds: float
    device: str
    stages: Mapping[str, float]

    @property
    def us_per_image(self) -> float:
        """Microseconds of an image, from its bytes to its features."""
        return self.seconds / self.images * 1e6 if self.images else 0.0

    @property
    def own_us_per_image(self) -> float:
        """Those of them that the network itself takes: not reading and decoding, which it shares with others."""
        shared = sum(self.stages.get(stage, 0.0) for stage in SHARED)
        return self.us_per_image * (1 - shared / (sum(self.stages.values()) or 1.0))

    @classmethod
    def read(cls, folder: Path) -> Timing | None:
        """That of the table in `folder`; None where it was not measured, or cannot be read."""
        try:
            return from_json(cls, read_json(folder / TIMING))
        except (OSError, ValueError):
            return None

    def after(self, earlier: Timing | None) -> Timing:
        """This and what an earlier run took."""
        if earlier is None:
            return self
        images, seconds = earlier.images + self.images, earlier.seconds + self.seconds
        return replace(self, images=images, seconds=seconds, stages=added(earlier.stages, self.stages))


class Clock:
    """Writes what tables have taken by now, this run and those before it; `networks` has the folders of each one's."""

    def __init__(self, networks: Sequence[Sequence[Path]], device: str) -> None:
        self._start = time.perf_counter()
        self._device = device
        self._earlier = [{folder: Timing.read(folder) for folder in folders} for folders in networks]

    def write(self, images: int, shared: Mapping[str, float], own: Sequence[Mapping[str, float]]) -> None:
        """Note that this run has taken so many `images` through the networks.

        `shared` are the threads' seconds in what is done once, `own` in what is done for each network.
        """
        passed, every = time.perf_counter() - self._start, sum(added(shared, *own).values()) or 1.0
        for earlier_of, mine in zip(self._earlier, own, strict=True):
            stages = added(shared, mine)
            seconds = passed * sum(stages.values()) / every
            now = Timing(images=images, seconds=seconds, device=self._device, stages=stages)
            for folder, earlier in earlier_of.items():
                write_json(folder / TIMING, asdict(now.after(earlier)))
