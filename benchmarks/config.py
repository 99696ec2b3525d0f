"""What each benchmark is told: one frozen dataclass a benchmark, from which the command line is made."""

from dataclasses import dataclass, field, replace
from pathlib import Path

from cyclopts import Parameter

from features.trunk.spec import AUTO, BUNDLED, DEPTHS, IMAGENET, BackboneOptions, NetworkOptions, TrunkOptions
from models.checks import check_positive, check_ranges
from models.heads.registry import HeadSettings
from models.heads.settings import LinearSettings, MlpSettings, XgbSettings
from models.networks.settings import GentleTraining, RetrainSettings
from pipeline.bench.config import BenchConfig
from pipeline.config import CompareConfig, CurveConfig, FeaturesConfig, FinetuneConfig, LearningConfig, RunConfig
from pipeline.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class BenchHeadsConfig:
    """The benchmark of the heads.

    Attributes:
        rows: Training and validation images that our trees and other learners are measured on, each class in
            proportion; test images are all taken.
        skip: What not to measure, separated by commas (an unknown name lists what is).
        busy: Measure as well what it costs that threads wait busily, alone and beside a process that never rests.
    """

    features: FeaturesConfig = field(default_factory=FeaturesConfig)
    rows: int = 10_000
    skip: str = ""
    busy: bool = False

    def __post_init__(self) -> None:
        if self.rows < 2:
            raise ConfigError(f"--rows {self.rows} leaves nothing to learn from: give 2 or more")


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class BenchClusterConfig:
    """The benchmark of Ray.

    Attributes:
        rounds: How often the rates are measured, in turn.
        workers: Workers to kill.
        nodes: Nodes to kill, each with all of its processes; another one takes its place.
        commands: How often to kill the command itself.
        every: Seconds from one kill to the next, about.
    """

    features: FeaturesConfig = field(default_factory=FeaturesConfig)
    rounds: int = 3
    workers: int = 20
    nodes: int = 3
    commands: int = 3
    every: float = 10.0

    def __post_init__(self) -> None:
        check_ranges(self, {"rounds": (1, 100), "workers": (0, 10**4), "nodes": (0, 10**4), "commands": (0, 10**4)})

    def arguments(self, run: RunConfig) -> list[str]:
        """What `treehead features` is given to make the tables of `run`."""
        trunk, images = self.features.trunk, run.images
        told = {"data-dir": images.data_dir, "out": run.out, "seed": run.seed, "backbone": trunk.backbone}
        told |= {"weights": trunk.weights, "node": trunk.node, "image-size": trunk.image_size}
        told |= {"train-limit": images.train_limit}
        options = [str(word) for name, value in told.items() if value is not None for word in (f"--{name}", value)]
        return [self.features.dataset, *options]


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class BenchFinetuneConfig(BenchConfig):
    """The benchmark of fine-tuning.

    Attributes:
        backbone: The network, all of whose layers are trained.
        images: Photographs to learn from, some for validation, cut from two of scikit-learn's.
        batch_images: Images in a step at most.
    """

    backbone: str = "resnet50"
    images: int = 256
    batch_images: int = 32

    def __post_init__(self) -> None:
        super().__post_init__()
        check_ranges(self, {"images": (64, 10**6), "batch_images": (2, 10**5)})


MANY_ENOUGH = 10_000
"""Training images of a set that benchmarks on several sets take where nobody says how many."""


def on_few(run: RunConfig) -> RunConfig:
    """A run on as many images as are worth waiting for."""
    limit = run.images.train_limit or MANY_ENOUGH
    return replace(run, images=replace(run.images, train_limit=limit))


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class BenchWeightsConfig:
    """The benchmark of weights.

    Attributes:
        weights: Weights to compare, separated by commas, as --weights of treehead's commands takes them, from what is
            worth least to what is worth most.
    """

    network: BackboneOptions = field(default_factory=BackboneOptions)
    weights: str = "random,bundled,imagenet"
    run: RunConfig = field(default_factory=RunConfig)

    def of(self, dataset: str, weights: str) -> FeaturesConfig:
        """The feature table of a data set that one of the weights makes."""
        network = self.network
        trunk = TrunkOptions(backbone=network.backbone, image_size=network.image_size, weights=weights)
        return FeaturesConfig(dataset=dataset, trunk=trunk, run=self.run)

    def weight_names(self) -> list[str]:
        """The weights asked for, each once; raises ConfigError for fewer than two."""
        names = list(dict.fromkeys(name.strip() for name in self.weights.split(",") if name.strip()))
        if len(names) < 2:
            raise ConfigError(f"--weights {self.weights!r} leaves nothing to compare: give two or more")
        return names


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class BenchTrunksConfig:
    """The benchmark of trunks.

    Attributes:
        alexnet: ImageNet's weights of AlexNet: imagenet, or a file.
    """

    alexnet: str = IMAGENET
    run: RunConfig = field(default_factory=RunConfig)

    def contenders(self) -> dict[str, TrunkOptions]:
        """The trunks that are measured, by the name that they are shown under."""
        both = TrunkOptions(backbone="alexnet,efficientnet_lite0", node=DEPTHS, weights=f"{self.alexnet},{AUTO}")
        alexnet, lite0 = both.each()
        return {
            "AlexNet, bundled": replace(alexnet, weights=BUNDLED, node=None),
            "AlexNet, ImageNet, depths": alexnet,
            "Lite0": replace(lite0, node=None),
            "Lite0, depths": lite0,
            "default, chosen": TrunkOptions(),
            "both at depths, chosen": both,
        }

    def of(self, dataset: str, name: str) -> LearningConfig:
        """What heads learn from that is made of a data set by one of the contenders."""
        features = FeaturesConfig(dataset=dataset, trunk=self.contenders()[name], run=self.run)
        return LearningConfig(features=features)


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class BenchExportConfig:
    """The benchmark of exports.

    Attributes:
        alexnet: ImageNet's weights of AlexNet: imagenet, or a file.
        heads: Heads to export, separated by commas.
        trunks: Trunks that they learn on, separated by commas.
        epochs: Epochs of the network that is retrained and exported as well; 0 for none.
    """

    alexnet: str = IMAGENET
    heads: str = "xgb,linear,mlp,hybrid,knn"
    trunks: str = "alexnet,alexnet-depths,lite0,both"
    epochs: int = 1
    run: RunConfig = field(default_factory=RunConfig)

    def __post_init__(self) -> None:
        check_ranges(self, {"epochs": (0, 10**4)})
        unknown = [name for name in self.trunks.split(",") if name not in self._contenders()]
        if unknown:
            raise ConfigError(f"--trunks {unknown[0]} came: expected some of {', '.join(self._contenders())}")

    def _contenders(self) -> dict[str, TrunkOptions]:
        both = TrunkOptions(
            backbone="alexnet,efficientnet_lite0",
            node=f",{DEPTHS}",
            weights=f"{self.alexnet},{AUTO}",
            precision="fp32",
        )
        alexnet, lite0 = both.each()
        depths = replace(alexnet, node=DEPTHS)
        return {"alexnet": alexnet, "alexnet-depths": depths, "lite0": replace(lite0, node=None), "both": both}

    def of(self, dataset: str, trunk: str) -> LearningConfig:
        """What heads learn from that is made of a data set by a trunk, all nodes of it."""
        features = FeaturesConfig(dataset=dataset, trunk=self._contenders()[trunk], run=self.run)
        return LearningConfig(features=features, select=False)

    def retraining(self) -> FinetuneConfig:
        """How a network is retrained."""
        how = RetrainSettings(training=GentleTraining(epochs=self.epochs))
        return FinetuneConfig(network=NetworkOptions(backbone="efficientnet_lite0"), how=how, run=self.run)


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class BenchCalibrationConfig:
    """The benchmark of calibration.

    Attributes:
        heads: Heads whose probabilities are looked at, separated by commas.
    """

    heads: str = "xgb,linear,mlp,hybrid"
    run: RunConfig = field(default_factory=RunConfig)

    def of(self, dataset: str) -> CompareConfig:
        """The comparison that has a data set's heads, as nothing set has it."""
        learning = LearningConfig(features=FeaturesConfig(dataset=dataset, run=self.run))
        return CompareConfig(learning=learning, heads=self.heads, folds=0)


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class BenchCurveConfig:
    """The benchmark of label curves.

    Attributes:
        heads: Heads whose curves are drawn, separated by commas.
        seeds: How often half of the images are drawn anew.
    """

    heads: str = "linear,xgb"
    seeds: int = 3
    run: RunConfig = field(default_factory=RunConfig)

    def __post_init__(self) -> None:
        check_ranges(self, {"seeds": (1, 1000)})
        self.of("digits").head_names()

    def of(self, dataset: str) -> CurveConfig:
        """The curves of a data set."""
        features = FeaturesConfig(dataset=dataset, run=self.run)
        return CurveConfig(learning=LearningConfig(features=features), heads=self.heads)


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class BenchFewConfig:
    """The benchmark of few images.

    Attributes:
        images: Images of each class to learn from, separated by commas.
        draws: How often they are drawn.
        heads: Heads that learn from them, separated by commas.
    """

    images: str = "5,10,20,50"
    draws: int = 5
    heads: str = "linear,xgb,mlp,hybrid"
    run: RunConfig = field(default_factory=RunConfig)

    def __post_init__(self) -> None:
        check_ranges(self, {"draws": (1, 1000)})
        if not all(count.strip().isdecimal() and int(count) > 1 for count in self.images.split(",")):
            raise ConfigError(f"--images {self.images!r} came: expected numbers above 1, separated by commas")

    def counts(self) -> list[int]:
        """Images of each class."""
        return [int(count) for count in self.images.split(",")]

    def of(self, dataset: str) -> LearningConfig:
        """What heads learn from that is made of a data set."""
        return LearningConfig(features=FeaturesConfig(dataset=dataset, run=self.run))


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class BenchInspectConfig:
    """The benchmark of what is found wrong with images.

    Attributes:
        alexnet: Weights of AlexNet: bundled, imagenet, or a file.
        draws: How often photographs are drawn of which each becomes a burst.
        planted: Test images of which changed copies are planted, of each kind.
        rows: Synthetic rows that are searched, separated by commas, from few to many.
    """

    alexnet: str = BUNDLED
    planted: int = 200
    draws: int = 20
    rows: str = "50000,100000,200000"
    run: RunConfig = field(default_factory=RunConfig)

    def __post_init__(self) -> None:
        check_ranges(self, {"planted": (1, 10**5), "draws": (0, 100)})
        if not all(count.strip().isdecimal() and int(count) >= 100 for count in self.rows.split(",")):
            raise ConfigError(f"--rows {self.rows!r} came: expected numbers of 100 or more, separated by commas")

    def scales(self) -> list[int]:
        """Rows of each search."""
        return [int(count) for count in self.rows.split(",")]

    def trunks(self) -> dict[str, TrunkOptions]:
        """The trunks, by the name that they are shown under."""
        lite0 = TrunkOptions(backbone="efficientnet_lite0")
        return {"Lite0": lite0, "AlexNet": TrunkOptions(backbone="alexnet", weights=self.alexnet)}


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class BenchVerdictConfig:
    """The benchmark of the verdict.

    Attributes:
        runs: Simulated comparisons of each case.
        seed: Seed of all that is drawn.
        out: Folder in which figures are written, below bench/.
    """

    runs: int = 20_000
    seed: int = 0
    out: Path = Path("artifacts")

    def __post_init__(self) -> None:
        check_ranges(self, {"runs": (1, 10**6)})


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class BenchScaleConfig:
    """The benchmark of one machine.

    Attributes:
        rows: Keys that are listed and rows that heads learn from, thousands, separated by commas, from few to many.
        columns: Features of a row.
        rounds: How often keys are listed; the heads learn once.
        seed: Seed of all that is drawn.
        out: Folder in which figures and the synthetic table are written, below bench/.
    """

    rows: str = "125,250,500,1000"
    columns: int = 512
    rounds: int = 2
    seed: int = 0
    out: Path = Path("artifacts")

    def __post_init__(self) -> None:
        check_ranges(self, {"columns": (1, 10**5), "rounds": (1, 100)})
        if not all(count.strip().isdecimal() and int(count) >= 10 for count in self.rows.split(",")):
            raise ConfigError(f"--rows {self.rows!r} came: expected thousands, 10 or more, separated by commas")

    def sizes(self) -> list[int]:
        """How many keys and rows, from few to many."""
        return sorted({1000 * int(count) for count in self.rows.split(",")})

    def heads(self) -> dict[str, list[int]]:
        """The rows that each head learns from; dense layers take longest by far, and get a tenth of the most."""
        sizes = self.sizes()
        return {"xgb": sizes, "linear": sizes, "mlp": [max(10_000, sizes[-1] // 10_000 * 1000)]}


SHORT = HeadSettings(
    xgb=XgbSettings(rounds=10),
    linear=LinearSettings(shrinkages=(0.3,), penalties=(0.01, 0.001), iterations=20),
    mlp=MlpSettings(epochs=2, shrinkages=(0.9,)),
)
"""What heads are told by the benchmark of one machine: to stop early, as it is about how cost grows."""


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class BenchServeConfig:
    """The benchmark of serving.

    Attributes:
        clients: Who ask at the same time, each for one image after the other.
        rounds: How often they do, in turn with the network alone.
        seconds: For how long each time.
        images: Images to take, at most.
    """

    clients: int = 32
    rounds: int = 3
    seconds: float = 20.0
    images: int = 200

    def __post_init__(self) -> None:
        check_ranges(self, {"clients": (1, 10**3), "rounds": (1, 100), "images": (1, 10**6)})
        check_positive(self, seconds=10**4)
