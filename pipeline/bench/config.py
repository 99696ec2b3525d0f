"""What each benchmark is told: one frozen dataclass a benchmark. The command line is made from these."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from cyclopts import Parameter

from pipeline.config import FeaturesConfig, RunConfig
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


@dataclass(frozen=True, kw_only=True)
class BenchHeadsConfig:
    """The benchmark of the heads.

    Attributes:
        rows: Training and validation images that our trees and other learners are measured on, each class in
            proportion; test images are all taken.
        skip: What not to measure, separated by commas (an unknown name lists what is).
    """

    features: FeaturesConfig = field(default_factory=FeaturesConfig)
    rows: int = 10_000
    skip: str = ""

    def __post_init__(self) -> None:
        if self.rows < 2:
            raise ConfigError(f"--rows {self.rows} leaves nothing to learn from: give 2 or more")


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class BenchFinetuneConfig:
    """The benchmark of fine-tuning.

    Attributes:
        backbone: The network, all of whose layers are trained.
        images: Photographs to learn from, some for validation, cut from two of scikit-learn's.
        batch_images: Images in a step at most.
        rounds: How often everything is measured, in turn; medians are shown.
        device: auto, cpu, cuda or cuda:N.
        out: Folder that bench/finetune.json is written to.
    """

    backbone: str = "resnet50"
    images: int = 256
    batch_images: int = 32
    rounds: int = 3
    device: str = "auto"
    out: Path = Path("artifacts")

    def __post_init__(self) -> None:
        if self.images < 64 or self.batch_images < 2 or self.rounds < 1:
            raise ConfigError(
                f"--images {self.images}, --batch-images {self.batch_images} and --rounds {self.rounds} came: "
                "expected 64, 2 and 1 or more"
            )


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class BenchWeightsConfig(RunConfig):
    """The benchmark of weights.

    Attributes:
        weights: Weights to compare, separated by commas, as --weights of the other commands takes them, from what is
            worth least to what is worth most.
    """

    weights: str = "random,bundled,imagenet"
    train_limit: int | None = 10_000

    def weight_names(self) -> list[str]:
        """The weights asked for, each once; raises ConfigError for fewer than two."""
        names = list(dict.fromkeys(name.strip() for name in self.weights.split(",") if name.strip()))
        if len(names) < 2:
            raise ConfigError(f"--weights {self.weights!r} leaves nothing to compare: give two or more")
        return names
