"""What `treehead bench` is told: one frozen dataclass a benchmark, from which the command line is made.

Their annotations are no strings, for the reason that `pipeline.config` has.
"""

from dataclasses import dataclass
from pathlib import Path

from cyclopts import Parameter

from models.checks import check_positive, check_ranges


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class BenchConfig:
    """What every benchmark of rates is told.

    Attributes:
        rounds: How often everything is measured, in turn; medians are shown.
        device: auto, cpu, cuda or cuda:N.
        out: Folder in which figures are written, below bench/.
    """

    rounds: int = 3
    device: str = "auto"
    out: Path = Path("artifacts")

    def __post_init__(self) -> None:
        check_ranges(self, {"rounds": (1, 10**3)})


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class BenchFeaturesConfig(BenchConfig):
    """The benchmark of extraction.

    Attributes:
        networks: Networks to measure, with random weights, separated by commas.
        dataset: A set that is held in memory: mnist, digits, cifar10 …
        data_dir: Where the sets known by name lie, or are downloaded to.
        photos: A folder of JPEG files, a folder for each class; by default cut from two photographs of scikit-learn's.
        images: Images of each to take.
        seconds: How long each part is measured alone.
    """

    networks: str = "alexnet,resnet18,resnet50,efficientnet_lite0"
    dataset: str = "mnist"
    data_dir: Path = Path("data")
    photos: Path | None = None
    images: int = 1024
    seconds: float = 0.6

    def __post_init__(self) -> None:
        super().__post_init__()
        check_ranges(self, {"images": (1, 10**7)})
        check_positive(self, seconds=10**4)

    @property
    def network_names(self) -> list[str]:
        """The networks asked for, each once."""
        return list(dict.fromkeys(filter(None, map(str.strip, self.networks.split(",")))))
