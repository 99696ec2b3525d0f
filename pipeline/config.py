"""What each stage is told: one frozen dataclass a stage. The command line is made from these.

Their annotations are no strings, as they would be with `annotations` of `__future__`: the command line would resolve
those of inherited fields in the module of the class that inherits them.
"""

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from features.trunk.spec import AUTO_WEIGHTS
from models.heads.settings import HEAD_SETTINGS, XgbSettings
from models.networks.settings import AskedViews, FinetuneSettings, FinetuneTraining, TrainingSettings, Views
from pipeline.errors import ConfigError

MOST_TRIALS = 10_000

FINETUNE = "finetune"
"""The contender of a comparison that is no head: it learns from images."""


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """What every stage that reads images is told.

    Attributes:
        data_dir: Where the sets known by name lie, or are downloaded to.
        train_limit: Training images to take, each class in proportion; a validation split made from training is part of
            them.
        backbone: The network: alexnet, resnet18, vgg16, squeezenet1_1, densenet121, convnext_tiny, vit_b_16 …
            (an unknown name lists them all), or timm:NAME where timm is installed.
        image_size: Pixels that the network sees; by default those of its weights.
        device: auto, cpu, cuda or cuda:N.
        max_bad: Share of images that may be unreadable before the run fails.
        retry_bad: Try again what could not be read in an earlier run.
        seed: Seed of --train-limit, of random weights and of all that is drawn.
        out: Folder that everything is written to.
    """

    data_dir: Path = Path("data")
    train_limit: int | None = None
    backbone: str = "alexnet"
    image_size: int | None = None
    device: str = "auto"
    max_bad: float = 0.01
    retry_bad: Annotated[bool, Parameter(negative=())] = False
    seed: int = 0
    out: Path = Path("artifacts")

    def __post_init__(self) -> None:
        if not 0 <= self.max_bad <= 1:
            raise ConfigError(f"--max-bad {self.max_bad} is no share: expected a number from 0 to 1")
        if not 0 <= self.seed < 2**32:
            raise ConfigError(f"--seed {self.seed} is out of range: expected 0 to {2**32 - 1}")
        if self.image_size is not None and not 8 <= self.image_size <= 4096:
            raise ConfigError(f"--image-size {self.image_size} is out of range: expected 8 to 4096 pixels")

    def common(self) -> dict[str, Any]:
        """These settings by name, for another stage on the same images."""
        return _named(self, RunConfig)


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class FeaturesConfig(RunConfig):
    """Which images, which trunk, and where results go.

    Attributes:
        dataset: A folder of images, a CSV or Parquet manifest (path,label[,split]), a folder of Hugging Face image
            Parquet files, or a set known by name: digits, mnist, cifar10 … (an unknown name lists them all).
        weights: The network's weights: imagenet (torchvision's, from its cache or downloaded), bundled (those that
            come with treehead), a .safetensors or .pth file, random, which is no transfer learning, or auto: imagenet
            where they need no download, else bundled where there are any, else random.
        node: Where in the network features are taken: one node, several separated by commas, or depths for a spread
            from early to late; one pass writes a table for each. By default what its own classifier would see.
        pool: What is done to a node's map: none, avg, max, avgNxN (averages over a grid of N by N), or auto, which
            averages over as fine a grid as 10,000 columns allow what has more.
        precision: fp32, bf16, fp16, or auto: the fastest that the device has in hardware.
        compile: Compile the network first (torch.compile): a minute at the start, then a little faster.
        decoder: pillow, or nvjpeg to let the GPU decode JPEG files.
    """

    dataset: str = "digits"
    weights: str = AUTO_WEIGHTS
    node: str | None = None
    pool: str = "auto"
    precision: str = "auto"
    compile: Annotated[bool, Parameter(negative=())] = False
    decoder: Literal["pillow", "nvjpeg"] = "pillow"


@dataclass(frozen=True, kw_only=True)
class XgbConfig:
    """The xgb stage: a feature table and the trees on it.

    Attributes:
        tune: Settings to try for each head, on validation rows: those given first, then what a search draws. 0 trains
            with those given, which is good enough for most.
        select_node: Of several nodes, learn from those alone that together do best on validation rows.
    """

    features: FeaturesConfig = field(default_factory=FeaturesConfig)
    trees: Annotated[XgbSettings, Parameter(name="*")] = field(default_factory=XgbSettings)
    tune: int = 0
    select_node: Annotated[bool, Parameter(negative=())] = False

    def __post_init__(self) -> None:
        if not 0 <= self.tune <= MOST_TRIALS:
            raise ConfigError(f"--tune {self.tune} is out of range: expected 0 to {MOST_TRIALS:,}")


@dataclass(frozen=True, kw_only=True)
class FinetuneOptions:
    """How a network is retrained."""

    settings: Annotated[FinetuneSettings, Parameter(name="*")] = field(default_factory=FinetuneSettings)
    training: Annotated[FinetuneTraining, Parameter(name="*")] = field(default_factory=FinetuneTraining)
    views: Annotated[AskedViews, Parameter(name="*")] = field(default_factory=AskedViews)


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class FinetuneConfig(RunConfig, FinetuneOptions):
    """How a network is retrained on images, and where the classifier goes.

    Attributes:
        weights: The weights that it starts from, as --weights of features takes them; scratch takes none.
    """

    weights: str = AUTO_WEIGHTS


@dataclass(frozen=True, kw_only=True)
class CompareConfig(XgbConfig):
    """The comparison stage.

    Attributes:
        heads: Heads to compare, separated by commas: xgb, linear, mlp, hybrid, knn, the cheap floor, and finetune, the
            network itself retrained.
        finetune: How finetune retrains the network, as treehead finetune takes it.
    """

    heads: str = "xgb,linear,mlp,hybrid"
    finetune: FinetuneOptions = field(default_factory=FinetuneOptions)

    def head_names(self) -> list[str]:
        """The heads asked for, each once; raises ConfigError for one that there is not, and for finetune alone."""
        names = list(dict.fromkeys(name.strip() for name in self.heads.split(",") if name.strip()))
        choices = (*HEAD_SETTINGS, FINETUNE)
        unknown = [name for name in names if name not in choices]
        if unknown or not names:
            raise ConfigError(
                f"unknown head {', '.join(unknown) or self.heads!r}: expected some of {', '.join(choices)}"
            )
        if self.finetune != FinetuneOptions() and FINETUNE not in names:
            raise ConfigError(f"--finetune.… came, but --heads {self.heads} has no finetune: add it")
        if names == [FINETUNE]:
            raise ConfigError(
                "--heads finetune leaves nothing to compare it with: add linear, or run treehead finetune"
            )
        return names

    def finetuning(self) -> FinetuneConfig:
        """What the finetune stage is told: the same images, and the network that makes the features."""
        options = _named(self.finetune, FinetuneOptions)
        return FinetuneConfig(**self.features.common(), **options, weights=self.features.weights)


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class PretrainConfig(RunConfig):
    """How a backbone is trained from scratch, and where its trunk goes.

    Attributes:
        image_size: Pixels that the network sees while it learns; its trunk serves at the network's own size.
        teacher: Weights of the same network, of which it is to predict the features besides learning the labels:
            imagenet, bundled or a file.
    """

    training: Annotated[TrainingSettings, Parameter(name="*")] = field(default_factory=TrainingSettings)
    views: Annotated[Views, Parameter(name="*")] = field(default_factory=Views)
    image_size: int = 96
    teacher: str | None = None


@dataclass(frozen=True, kw_only=True)
class PredictConfig:
    """How predictions are made and shown.

    Attributes:
        weights: The trunk's weights, where they have moved since training: imagenet, bundled or a file. With --imagenet
            those of the whole network: imagenet or a file.
        imagenet: Use a network of torchvision as it is: the five most likely of ImageNet's 1,000 classes.
        backbone: That network; alexnet where none is given.
        device: auto, cpu, cuda or cuda:N.
        json: Print JSON: the trunk, and for each image its class and every class's probability.
        csv: Print CSV: image, class, probability, error.
    """

    weights: str | None = None
    imagenet: Annotated[bool, Parameter(negative=())] = False
    backbone: str | None = None
    device: str = "auto"
    json: bool = False
    csv: bool = False

    def __post_init__(self) -> None:
        if self.backbone and not self.imagenet:
            raise ConfigError(f"--backbone {self.backbone} came without --imagenet: a classifier knows its own network")
        if self.json and self.csv:
            raise ConfigError("--json and --csv were both given: choose one")


def _named(settings: Any, kind: type) -> dict[str, Any]:
    """Of `settings`, those that `kind` has, by name."""
    return {each.name: getattr(settings, each.name) for each in fields(kind)}
