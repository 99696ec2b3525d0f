"""What each benchmark is told: one frozen dataclass a benchmark. The command line is made from these."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cyclopts import Parameter

from pipeline.errors import ConfigError


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class BenchFeaturesConfig:
    """The benchmark of extraction.

    Attributes:
        dataset: A set that is held in memory: mnist, digits, cifar10 …
        data_dir: Where the sets known by name lie, or are downloaded to.
        photos: A folder of JPEG files, a folder for each class; by default cut from two photographs of scikit-learn's.
        images: Images of each to take.
        rounds: How often everything is measured, in turn; medians are shown.
        seconds: How long each part is measured alone.
        device: auto, cpu, cuda or cuda:N.
        out: Folder that bench/features.json is written to.
    """

    dataset: str = "mnist"
    data_dir: Path = Path("data")
    photos: Path | None = None
    images: int = 1024
    rounds: int = 3
    seconds: float = 5.0
    device: str = "auto"
    out: Path = Path("artifacts")

    def __post_init__(self) -> None:
        if self.images < 1 or self.rounds < 1:
            raise ConfigError(f"--images {self.images} and --rounds {self.rounds} came: expected 1 or more of each")
        if self.seconds <= 0:
            raise ConfigError(f"--seconds {self.seconds} is no time to measure in: expected more than 0")
