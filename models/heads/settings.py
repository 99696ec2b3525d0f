"""What heads are told: frozen dataclasses, light to import, so that the command line is quick to help."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, Self

from models.checks import check_positive, check_ranges, check_shares
from models.errors import SettingsError

_COLUMNS = (1, 10**6)

MANY_CLASSES = 50
"""With more classes than these the trees' settings are others, see `XgbSettings.suited`."""

MOST_TREES = 5_000
"""Trees for many classes, all rounds together, at most."""

_OF_MANY: dict[str, Any] = {"max_depth": 2, "column_share": 1.0, "max_bin": 128, "learning_rate": 0.5}
"""The few rows of a class are told apart by fine bins of one column, which each node has to find among all."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What the settings of every head have: the name of their `head`, and the `parts` that it is made of, by name."""

    head: ClassVar[str]

    @property
    def parts(self) -> tuple[str, ...]:
        """The heads that it is made of, by name; most are made of none."""
        return ()

    def suited(self, classes: int) -> Self:
        """The same, but with others instead of the defaults where so many `classes` want them; few heads have such."""
        return self


@dataclass(frozen=True, kw_only=True)
class ColumnsSettings(Settings):
    """What the settings of heads have that learn from the best columns of a table: how many these are."""

    columns: int = 4096


@dataclass(frozen=True, kw_only=True)
class XgbSettings(ColumnsSettings):
    """Boosted trees.

    Attributes:
        columns: Feature columns that the trees see: those with the highest ANOVA F value on the training rows, as many
            of each node.
        discriminant_columns: Feature columns, chosen in the same way, that a linear discriminant is fitted on; its axes
            and its scores are columns for the trees as well. 0 leaves it out.
        rounds: Boosting rounds at most; training stops earlier once validation log-loss no longer falls.
        patience: Rounds without a lower validation log-loss before training stops.
        learning_rate: Shrinkage of each tree.
        max_depth: Depth of a tree.
        max_bin: Histogram bins per column.
        column_share: Share of the columns that each node of a tree may choose from.
        external_memory: Keep what trees learn from on disk (XGBoost's ExtMemQuantileDMatrix): slower, for tables that
            do not fit into memory.
        tree_method: XGBoost's tree method; gpu_hist is its former name for hist on cuda and means that.

    Each round has a tree for each class. With many classes (see MANY_CLASSES) a class has few rows, and what tells it
    from all others is its own discriminant score: see `suited` for what changes then, before a search or training.
    """

    head: ClassVar[str] = "xgb"

    columns: int = 256
    discriminant_columns: int = 4096
    rounds: int = 600
    patience: int = 20
    learning_rate: float = 0.2
    max_depth: int = 4
    max_bin: int = 64
    column_share: float = 0.3
    external_memory: bool = False
    tree_method: Literal["hist", "gpu_hist"] = "hist"

    def __post_init__(self) -> None:
        check_ranges(self, {"columns": _COLUMNS, "discriminant_columns": (0, 10**5)})
        check_ranges(self, {"rounds": (1, 10**6), "patience": (1, 10**6), "max_depth": (1, 32), "max_bin": (2, 2**16)})
        check_positive(self, learning_rate=1, column_share=1)

    def suited(self, classes: int) -> Self:
        """See Settings: of many, those that are at their defaults are as in _OF_MANY, and rounds fewer."""
        if classes <= MANY_CLASSES:
            return self
        usual = type(self)()
        left = {name: value for name, value in _OF_MANY.items() if getattr(self, name) == getattr(usual, name)}
        return replace(self, **left, rounds=min(self.rounds, max(1, MOST_TREES // classes)))


@dataclass(frozen=True, kw_only=True)
class LinearSettings(ColumnsSettings):
    """Softmax regression, the probe.

    Attributes:
        columns: Feature columns that it sees, chosen as for the trees.
        shrinkages: Shares of the identity in the covariance within classes that whitens the columns, 1 for none of the
            covariance; all of them are used together.
        penalties: L2 weights to try for each shrinkage, strongest first.
        iterations: L-BFGS steps at most for a penalty, starting from the one before.
    """

    head: ClassVar[str] = "linear"

    shrinkages: tuple[float, ...] = (1.0, 0.3, 0.03)
    penalties: tuple[float, ...] = (3.0, 1.0, 3e-1, 1e-1, 3e-2, 1e-2, 3e-3, 1e-3, 3e-4, 1e-4)
    iterations: int = 100

    def __post_init__(self) -> None:
        check_ranges(self, {"columns": _COLUMNS, "iterations": (1, 10**6)})
        check_positive(self, shrinkages=1, penalties=10**6)


@dataclass(frozen=True, kw_only=True)
class MlpSettings(ColumnsSettings):
    """Dense layers: AdamW on a one-cycle schedule, the epoch of lowest validation log-loss kept.

    Attributes:
        columns: Feature columns that they see, chosen as for the trees.
        shrinkages: Shares of the identity in the covariance within classes that whitens the columns; the layers are
            learnt with each, and those kept that are best on validation.
        hidden: Units of each hidden layer.
        input_dropout: Share of the columns dropped.
        dropout: Share of the units dropped before each hidden layer but the first.
        epochs: Passes over the training rows.
        batches: Batches of an epoch, so that small sets and large ones are learnt in as many steps.
        learning_rate: The schedule's highest.
        weight_decay: L2 penalty of the weights.
    """

    head: ClassVar[str] = "mlp"

    shrinkages: tuple[float, ...] = (0.9, 0.1)
    hidden: tuple[int, ...] = (1024, 1024)
    input_dropout: float = 0.2
    dropout: float = 0.5
    epochs: int = 12
    batches: int = 64
    learning_rate: float = 1e-4
    weight_decay: float = 1e-2

    def __post_init__(self) -> None:
        check_ranges(self, {"columns": _COLUMNS, "hidden": (1, 10**5), "epochs": (1, 10**5), "batches": (1, 10**6)})
        check_shares(self, "input_dropout", "dropout", "weight_decay")
        check_positive(self, shrinkages=1, learning_rate=1)


@dataclass(frozen=True, kw_only=True)
class KnnSettings(ColumnsSettings):
    """Nearest neighbours, the cheap floor.

    Attributes:
        columns: Feature columns that they see, chosen as for the trees.
        components: Principal components of the columns at most.
        neighbours: How many may vote, each tried on validation.
    """

    head: ClassVar[str] = "knn"

    components: int = 128
    neighbours: tuple[int, ...] = (1, 3, 5, 10, 20)

    def __post_init__(self) -> None:
        check_ranges(self, {"columns": _COLUMNS, "components": (1, 10**5), "neighbours": (1, 10**6)})


@dataclass(frozen=True, kw_only=True)
class HybridSettings(Settings):
    """Other heads, their probabilities averaged.

    Attributes:
        parts: The heads that it is made of, two or more.
    """

    head: ClassVar[str] = "hybrid"

    parts: tuple[str, ...] = ("xgb", "linear", "mlp")

    def __post_init__(self) -> None:
        if len(self.parts) < 2 or len(set(self.parts)) < len(self.parts):
            raise SettingsError(f"{said_of_parts(self)} came: expected two heads or more, each once")


def said_of_parts(settings: Settings) -> str:
    """The parts of a head as messages name them."""
    return " ".join(f"`{settings.head}.parts={part}`" for part in settings.parts) or f"`{settings.head}.parts=()`"
