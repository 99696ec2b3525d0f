"""What each stage is told: one frozen dataclass a stage. The command line is made from these.

Their annotations are no strings, as they would be with `annotations` of `__future__`: the command line would resolve
those of inherited fields in the module of the class that inherits them.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Final, Literal

from cyclopts import Group, Parameter, Token

from features.sources.options import SourceOptions
from features.stores import is_remote, place
from features.trunk.spec import BackboneOptions, NetworkOptions, TrunkOptions, TrunkSpec
from models.heads.registry import DEFAULTS, HEADS, HeadSettings
from models.heads.settings import XgbSettings
from models.networks.settings import FORMER_NETWORK, NETWORK, AskedViews, RetrainSettings, TrainingSettings, Views
from pipeline.console import warn
from pipeline.errors import ConfigError
from pipeline.inspection.codes import CODES


def _place(_: type, tokens: Sequence[Token]) -> Path:
    return place(tokens[0].value)


class _Unchecked:
    """Tells pydantic, by which cyclopts checks values where it is loaded, that a place in a store will do."""

    @staticmethod
    def __get_pydantic_core_schema__(*_: object) -> dict[str, str]:
        return {"type": "any"}


Place = Annotated[Path, Parameter(converter=_place), _Unchecked]
"""A path, or a place in a store."""

MOST_TRIALS = 10_000

HERE: Final = "here"
"""The machine that a command runs on, as `RunConfig.on` has it."""

MOST_FOLDS, USUAL_FOLDS = 20, 5

_IN_TRAINING = "what a network is trained from (its checkpoint, and images decoded once)"

FEW_IMAGES = 2000
"""Of fewer images each is tested: a fifth of them would tell little."""

IMAGES, _TRUNK, _TRAINING, _HEADS = (
    Parameter(group=Group(name, sort_key=number))
    for number, name in enumerate(("Images", "Network", "Training", "Heads"))
)
_OF_HEAD = {name: 10 + number for number, name in enumerate((*HEADS, NETWORK, "Run"))}
_NETWORK = Parameter(group=Group(NETWORK, help="The network itself, retrained.", sort_key=_OF_HEAD[NETWORK]))
_RUN = Group("Run", sort_key=_OF_HEAD["Run"])
"""What options stand under in --help, in this order; each head has a group of its own."""


@Parameter(name="*", group=_RUN)
@dataclass(frozen=True, kw_only=True)
class ScreenConfig:
    """How much a command says.

    Attributes:
        quiet: Show results and warnings alone.
        verbose: Show paths, times and what each head has settled on as well.
    """

    quiet: Annotated[bool, Parameter(name=("--quiet", "-q"))] = False
    verbose: Annotated[bool, Parameter(name=("--verbose", "-v"))] = False

    def __post_init__(self) -> None:
        if self.quiet and self.verbose:
            raise ConfigError("--quiet and --verbose were both given: choose one")


@Parameter(name="*", group=_RUN)
@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """What every stage that reads images is told.

    Attributes:
        device: auto, cpu, cuda or cuda:N.
        max_bad: Share of images that may be unreadable before the run fails.
        retry_bad: Try again what could not be read in an earlier run.
        seed: Seed of --train-limit, of random weights and of all that is drawn.
        out: Folder that everything is written to, or a place in a store: s3://bucket/run.
        on: Where features are made and heads learn: here, or ray, by the workers of a Ray cluster, who reach images
            and --out by the same paths.
        address: The Ray cluster, host:port, or auto for the one that runs here; by default one is started for the run.
    """

    images: SourceOptions = field(default_factory=SourceOptions)
    device: str = "auto"
    max_bad: Annotated[float, IMAGES] = 0.01
    retry_bad: Annotated[bool, IMAGES] = False
    seed: int = 0
    out: Place = Path("artifacts")
    on: Literal["here", "ray"] = HERE
    address: str | None = None

    def __post_init__(self) -> None:
        if self.address and self.on == HERE:
            raise ConfigError(f"--address {self.address} came without --on ray: add it")
        if not 0 <= self.max_bad <= 1:
            raise ConfigError(f"--max-bad {self.max_bad} is no share: expected a number from 0 to 1")
        if not 0 <= self.seed < 2**32:
            raise ConfigError(f"--seed {self.seed} is out of range: expected 0 to {2**32 - 1}")

    def refuse_cluster(self, what: str) -> None:
        """Raise ConfigError where a cluster is asked for by what does not work on one."""
        if self.on != HERE:
            raise ConfigError(
                f"--on {self.on} came, but {what} on one machine: leave it out (treehead features --on "
                f"{self.on} makes the tables that this finds)"
            )


def _refuse_store(run: RunConfig, what: str) -> None:
    """Raise ConfigError for results in a store among which would be what a program writes in the midst of."""
    if is_remote(run.out):
        raise ConfigError(f"--out {run.out} came, and {what} cannot be kept there: give a folder of this machine")


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class FeaturesConfig:
    """Which images, which trunk, and where results go.

    The data set may also be given by its place, as the first word after the command, here and in what this is part of.

    Attributes:
        dataset: A folder of images, a CSV or Parquet manifest (path,label[,split]), a folder of Hugging Face image
            Parquet files, each of them also in a store (s3://bucket/photos, gs://…, hf://datasets/…), or a set known by
            name: digits, mnist, cifar10 … (an unknown name lists them all).
    """

    dataset: Annotated[str, IMAGES] = field(default="digits", kw_only=False)
    trunk: TrunkOptions = field(default_factory=TrunkOptions)
    run: RunConfig = field(default_factory=RunConfig)


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class LearningConfig:
    """What heads learn from, and how their settings are found.

    Attributes:
        tune: Settings to try for each head, on validation rows: those given first, then what a search draws. 0 trains
            with those given, which is good enough for most.
        select: Of several nodes, learn from those alone that do best together, by a linear probe on rows that it
            has not seen. What several networks give is selected from unless --no-select is given.
    """

    features: FeaturesConfig = field(default_factory=FeaturesConfig, kw_only=False)
    tune: Annotated[int, _HEADS] = 0
    select: Annotated[bool | None, _HEADS, Parameter(negative="--no-select")] = None

    def __post_init__(self) -> None:
        if not 0 <= self.tune <= MOST_TRIALS:
            raise ConfigError(f"--tune {self.tune} is out of range: expected 0 to {MOST_TRIALS:,}")
        if self.tune:
            self.features.run.refuse_cluster("--tune tries settings")
            _refuse_store(self.features.run, "the studies of --tune")

    def selects(self, trunks: Sequence[TrunkSpec]) -> bool:
        """Whether to learn from the best nodes of `trunks` alone."""
        return len({trunk.backbone for trunk in trunks}) > 1 if self.select is None else self.select


@dataclass(frozen=True, kw_only=True)
class XgbConfig:
    """The xgb stage: a feature table and the trees on it."""

    learning: LearningConfig = field(default_factory=LearningConfig, kw_only=False)
    xgb: XgbSettings = field(default_factory=XgbSettings)


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class FinetuneConfig:
    """Which network is retrained, how, and where the classifier goes."""

    network: NetworkOptions = field(default_factory=NetworkOptions)
    how: Annotated[RetrainSettings, Parameter(name="*"), _TRAINING] = field(default_factory=RetrainSettings)
    run: RunConfig = field(default_factory=RunConfig)

    def __post_init__(self) -> None:
        self.run.refuse_cluster("a network learns")
        _refuse_store(self.run, _IN_TRAINING)


@dataclass(frozen=True, kw_only=True)
class CurveConfig:
    """The label curve: what more labels would bring.

    Attributes:
        heads: Heads to draw the curve of, separated by commas: those that have a group of settings below.
    """

    learning: LearningConfig = field(default_factory=LearningConfig, kw_only=False)
    heads: Annotated[str, _HEADS] = "linear"
    settings: Annotated[HeadSettings, Parameter(name="*")] = field(default_factory=HeadSettings)

    def __post_init__(self) -> None:
        self.learning.features.run.refuse_cluster("the curve is drawn")
        self.head_names()

    def head_names(self) -> list[str]:
        """The heads asked for, each once; raises ConfigError for one that there is not."""
        return _head_names(self.heads, tuple(HEADS))


def _head_names(asked: str, choices: Sequence[str]) -> list[str]:
    """The names in `asked`, each once; raises ConfigError for one that is not among `choices`."""
    names = list(dict.fromkeys(filter(None, map(str.strip, asked.split(",")))))
    unknown = [name for name in names if name not in choices]
    if unknown or not names:
        raise ConfigError(f"unknown head {', '.join(unknown) or asked!r}: expected some of {', '.join(choices)}")
    return names


@dataclass(frozen=True, kw_only=True)
class InspectConfig:
    """What is looked at for what is wrong with it.

    Attributes:
        fail_on: Findings that make the exit code 1, separated by commas: leak, label …
        pictures: Show images in the report; without, their names stand.
    """

    learning: LearningConfig = field(default_factory=LearningConfig, kw_only=False)
    fail_on: Annotated[str, _RUN] = ""
    pictures: Annotated[bool, Parameter(negative="--no-pictures", group=_RUN)] = True

    def __post_init__(self) -> None:
        self.learning.features.run.refuse_cluster("images are compared with one another")
        unknown = [code for code in self.codes() if code not in CODES]
        if unknown:
            raise ConfigError(f"--fail-on {unknown[0]} is no finding: expected some of {', '.join(CODES)}")

    def codes(self) -> list[str]:
        """The findings that are not to be."""
        return list(filter(None, map(str.strip, self.fail_on.split(","))))


@dataclass(frozen=True, kw_only=True)
class CompareConfig:
    """The comparison stage.

    Attributes:
        curve: Say what more labels would bring, where its fits take little time.
        heads: Heads to compare, separated by commas: those that have a group of settings below.
        folds: Test heads on each image, by heads that have learnt from the other folds, so many; 0 tests on the test
            split alone. Unless given, 5 for less than 2,000 images without a test split of their own.
        inspect: Say what is wrong with the images, as treehead inspect does.
        pictures: Show in the report the images that are mistaken, and those most like them; without, their names stand.
        network: How the network is retrained, as treehead finetune takes it.
    """

    learning: LearningConfig = field(default_factory=LearningConfig, kw_only=False)
    heads: Annotated[str, _HEADS] = "xgb,linear,mlp,hybrid"
    folds: Annotated[int | None, _HEADS] = None
    pictures: Annotated[bool, Parameter(negative="--no-pictures", group=_RUN)] = True
    settings: Annotated[HeadSettings, Parameter(name="*")] = field(default_factory=HeadSettings)
    network: Annotated[RetrainSettings, _NETWORK] = field(default_factory=RetrainSettings)
    curve: Annotated[bool, _HEADS, Parameter(negative="--no-curve")] = True
    inspect: Annotated[bool, Parameter(negative="--no-inspect", group=_RUN)] = True

    def __post_init__(self) -> None:
        if FORMER_NETWORK in map(str.strip, self.heads.split(",")):
            warn(f"the head {FORMER_NETWORK} is now called {NETWORK}: the old name goes with the next release")
        names = self.head_names()
        if NETWORK in names:
            self.learning.features.run.refuse_cluster("a network learns")
            _refuse_store(self.learning.features.run, _IN_TRAINING)
        if self.folds is not None and self.folds not in (0, *range(2, MOST_FOLDS + 1)):
            raise ConfigError(f"--folds {self.folds} is out of range: expected 2 to {MOST_FOLDS}, or 0 for none")
        if self.folds and NETWORK in names:
            raise ConfigError(
                f"--folds {self.folds} came with the head network, which takes too long for that: leave one"
            )

    def folds_of(self, images: int, *, test_given: bool) -> int:
        """In how many folds so many images are tested; 0 for on the test split."""
        if self.folds is not None:
            return self.folds
        return 0 if test_given or images >= FEW_IMAGES or NETWORK in self.head_names() else USUAL_FOLDS

    def head_names(self) -> list[str]:
        """The heads asked for, each once; raises ConfigError for one that there is not, and for the network alone."""
        today = re.sub(rf"\b{FORMER_NETWORK}\b", NETWORK, self.heads)
        names = _head_names(today, (*HEADS, NETWORK))
        if self.network != RetrainSettings() and NETWORK not in names:
            raise ConfigError(f"--network.… came, but --heads {self.heads} has no network: add it")
        if names == [NETWORK]:
            raise ConfigError("--heads network leaves nothing to compare it with: add linear, or run treehead finetune")
        return names


@dataclass(frozen=True, kw_only=True)
class PretrainedBackbone(BackboneOptions):
    """Which network learns from scratch, and what it sees while it does.

    Attributes:
        image_size: Pixels that the network sees while it learns; its trunk serves at the network's own size.
    """

    image_size: int = 96


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class PretrainConfig:
    """How a backbone is trained from scratch, and where its trunk goes.

    Attributes:
        teacher: Weights of the same network, of which it is to predict the features besides learning the labels:
            imagenet, bundled or a file.
    """

    network: PretrainedBackbone = field(default_factory=PretrainedBackbone)
    training: Annotated[TrainingSettings, _TRAINING] = field(default_factory=TrainingSettings)
    views: Annotated[Views, _TRAINING] = field(default_factory=Views)
    teacher: Annotated[str | None, _TRAINING] = None
    run: RunConfig = field(default_factory=RunConfig)

    def __post_init__(self) -> None:
        self.run.refuse_cluster("a network learns")
        _refuse_store(self.run, _IN_TRAINING)


_FLAT = (TrainingSettings, Views, AskedViews)
"""On the command line their fields, and those of their kind, stand by their own names, whatever they are a part of."""

for _settings in _FLAT:
    Parameter(name="*")(_settings)
Parameter(name="*", group=_TRUNK.group)(BackboneOptions)
Parameter(name="*", group=IMAGES.group)(SourceOptions)

for _name in HEADS:
    _told = type(DEFAULTS.of(_name))
    _what = (_told.__doc__ or "").partition("\n")[0]
    Parameter(group=Group(_name, help=_what, sort_key=_OF_HEAD[_name]))(_told)
