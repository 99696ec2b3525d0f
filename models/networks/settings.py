"""What the training of networks is told: frozen dataclasses, light to import as those of the heads are."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import Literal, Self

from models.checks import check_positive, check_ranges, check_shares
from models.errors import SettingsError

_RATES = {("sgd", True): 0.15, ("sgd", False): 0.01, ("adam", True): 1e-3, ("adam", False): 1e-4}
"""The learning rate by optimizer, and whether training is from scratch."""

NETWORK = "network"
"""The contender of a comparison that is no head on a table: the network itself, which learns from images."""

FORMER_NETWORK = "finetune"
"""What it was called in the first release: on the command line, on its card and in the names of its files."""

FREEZE, LP_FT, SCRATCH = "freeze:", "lp-ft", "scratch"

REGIMES = ("feature-extraction", f"{FREEZE}K", "finetune", "two-phase", LP_FT, SCRATCH)
"""The ways of retraining a network; K is a number of its children."""


@dataclass(frozen=True, kw_only=True)
class Views:
    """What training sees of each image.

    Attributes:
        min_area: Share of an image that training sees at least; with 1 it sees what prediction sees.
        max_stretch: How much the sides of what it sees may differ, as a share.
        max_degrees: How far what it sees is turned at most, to either side.
        hflip: Share of the images that are mirrored.
    """

    min_area: float = 0.45
    max_stretch: float = 0.2
    max_degrees: float = 0.0
    hflip: float = 0.5

    def __post_init__(self) -> None:
        check_shares(self, "max_stretch", "hflip")
        check_positive(self, min_area=1)
        check_ranges(self, {"max_degrees": (0, 180)})

    def to_json(self) -> dict[str, float]:
        """By the names that they have had on disk since the first release: others would be other classifiers."""
        return {
            "least_area": self.min_area,
            "most_stretch": self.max_stretch,
            "most_degrees": self.max_degrees,
            "mirrored": self.hflip,
        }

    @property
    def whole(self) -> bool:
        """Whether training sees every image as prediction does."""
        return self == WHOLE


PHOTOGRAPHS = Views(min_area=0.5, max_degrees=10.0)
"""For a network that has seen many photographs before."""

WHOLE = Views(min_area=1.0, max_stretch=0.0, hflip=0.0)
"""Every image as prediction sees it: what suits digits and letters, which are others in the mirror."""


@dataclass(frozen=True, kw_only=True)
class AskedViews:
    """What training sees of each image, where something else is wanted than suits the images.

    Attributes:
        min_area: Share of an image that training sees at least; with 1 it sees what prediction sees. Else 0.5, and 1
            of digits and letters.
        max_stretch: How much the sides of what it sees may differ, as a share. Else 0.2, and 0 of digits and letters.
        max_degrees: How far what it sees is turned at most, to either side. Else 10, and 0 of digits and letters.
        hflip: Share of the images that are mirrored. Else 0.5, and 0 of digits and letters.
    """

    min_area: float | None = None
    max_stretch: float | None = None
    max_degrees: float | None = None
    hflip: float | None = None

    def over(self, usual: Views) -> Views:
        """These, and what was not asked for as usual."""
        return replace(usual, **{name: value for name, value in asdict(self).items() if value is not None})


@dataclass(frozen=True, kw_only=True)
class TrainingSettings:
    """Settings of a network's training: the epoch of best validation accuracy is kept.

    Attributes:
        epochs: Passes over the training images.
        minutes: Time to train for, instead of a number of epochs; the schedule is fitted to it, the last pass cut
            short.
        batch_images: Images in a step at most; all steps have as many.
        first_size: Pixels that training begins with, growing to the image size in steps of 32 (progressive resizing:
            small images take less time); by default all images have that size.
        optimizer: sgd, with Nesterov's momentum, or adam, with the weight decay apart (AdamW).
        learning_rate: The schedule's highest; by default 0.15 from scratch and 0.01 from trained weights, for adam
            1e-3 and 1e-4.
        schedule: cosine, which falls to nothing along half a cosine, or step, which divides by ten at one third and at
            two thirds.
        warm_up: Share of the schedule in which the learning rate rises.
        weight_decay: L2 penalty of the weights; biases and norms have none.
        label_smoothing: Share of each label that goes to all classes alike.
        class_weights: Count each class's images as if all classes had as many.
        patience: Epochs without a better one before training stops; 0 for none.
        precision: fp32, bf16, fp16, or auto: the fastest that the device has in hardware; to train in, as predictions
            are made in fp32.
    """

    epochs: int = 30
    minutes: float | None = None
    batch_images: int = 128
    first_size: int | None = None
    optimizer: Literal["sgd", "adam"] = "sgd"
    learning_rate: float | None = None
    schedule: Literal["cosine", "step"] = "cosine"
    warm_up: float = 0.15
    weight_decay: float = 5e-4
    label_smoothing: float = 0.1
    class_weights: bool = False
    patience: int = 0
    precision: str = "auto"

    def __post_init__(self) -> None:
        check_ranges(self, {"epochs": (1, 10**5), "batch_images": (2, 10**5), "patience": (0, 10**5)})
        check_shares(self, "warm_up", "weight_decay", "label_smoothing")
        check_positive(self, learning_rate=100, minutes=10**6, first_size=4096)

    @property
    def rate(self) -> float:
        """The learning rate; where none was given, what suits the optimizer from scratch."""
        return self.learning_rate or _RATES[self.optimizer, True]

    def resolved(self, precision: str, *, from_scratch: bool) -> Self:
        """The same with nothing left open: at `precision`, at a rate that does not undo what trained weights know."""
        rate = self.learning_rate or _RATES[self.optimizer, from_scratch]
        return replace(self, learning_rate=rate, precision=precision)


@dataclass(frozen=True, kw_only=True)
class GentleTraining(TrainingSettings):
    """Of a network that knows most of what is wanted: fewer epochs, smaller steps.

    Without label smoothing: of few photographs, a linear head on thousands of frozen features learns less with it.
    """

    epochs: int = 10
    batch_images: int = 32
    warm_up: float = 0.1
    label_smoothing: float = 0.0


@dataclass(frozen=True, kw_only=True)
class RetrainSettings:
    """How a network is retrained.

    Attributes:
        regime: feature-extraction (a new head on the frozen network), freeze:K (all after its first K children),
            finetune (all layers), two-phase (the head first, then all layers at a tenth of the rate), lp-ft (a linear
            probe on the feature table, then all layers) or scratch (all layers, from random weights).
        hidden: Units of a dense layer before the last one, half of them dropped; 0 for none.
    """

    regime: str = "finetune"
    hidden: int = 0
    training: GentleTraining = field(default_factory=GentleTraining)
    views: AskedViews = field(default_factory=AskedViews)

    def __post_init__(self) -> None:
        check_ranges(self, {"hidden": (0, 10**5)})
        if self.regime not in REGIMES and not self.regime.startswith(FREEZE):
            raise SettingsError(f"unknown `regime={self.regime}`: expected one of {', '.join(REGIMES)}")
        if self.hidden and self.regime == LP_FT:
            raise SettingsError(
                f"`hidden={self.hidden}` does not go with {self.regime}, whose head is one linear layer: "
                "leave it out, or give another `regime`"
            )
