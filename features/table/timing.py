"""How long it took to make a table: apart from the manifest, which is the same wherever the table is made."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from features.storage import from_json, read_json, write_json

TIMING = "timing.json"


@dataclass(frozen=True, kw_only=True)
class Timing:
    """`images` went through the network in `seconds`, in which all threads together spent those of `stages`.

    All runs that a table took are added up, with what a killed one did in vain and the next one again; `device` is that
    of the last.
    """

    images: int
    seconds: float
    device: str
    stages: Mapping[str, float]

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
        return Timing(
            images=earlier.images + self.images,
            seconds=earlier.seconds + self.seconds,
            device=self.device,
            stages={name: earlier.stages.get(name, 0.0) + spent for name, spent in self.stages.items()},
        )


class Clock:
    """Writes what the tables in `folders` have taken by now, this run added to those before it."""

    def __init__(self, folders: Sequence[Path], device: str) -> None:
        self._start = time.perf_counter()
        self._device = device
        self._earlier = {folder: Timing.read(folder) for folder in folders}

    def write(self, images: int, stages: Mapping[str, float]) -> None:
        """Note that this run has taken so many `images` through the network."""
        seconds = time.perf_counter() - self._start
        now = Timing(images=images, seconds=seconds, device=self._device, stages=dict(stages))
        for folder, earlier in self._earlier.items():
            write_json(folder / TIMING, asdict(now.after(earlier)))
