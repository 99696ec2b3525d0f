"""What heads are told: frozen dataclasses, light to import, so that the command line is quick to help."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from models.checks import check_positive, check_ranges

_RANGES = {
    "columns": (1, 10**6),
    "discriminant_columns": (0, 10**5),
    "rounds": (1, 10**6),
    "patience": (1, 10**6),
    "max_depth": (1, 32),
    "max_bin": (2, 2**16),
}


@dataclass(frozen=True, kw_only=True)
class XgbSettings:
    """Settings of the boosted trees.

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
    """

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
        check_ranges(self, _RANGES)
        check_positive(self, learning_rate=1, column_share=1)


@dataclass(frozen=True, kw_only=True)
class LinearSettings:
    """Settings of the probe.

    `columns`: feature columns that it sees, chosen as for the trees; `shrinkages`: shares of the identity in the
    covariance within classes that whitens them, 1 for none of the covariance, all of them used together; `penalties`:
    L2 weights to try for each, strongest first; `iterations`: L-BFGS steps at most for a penalty, starting from the one
    before.
    """

    columns: int = 4096
    shrinkages: tuple[float, ...] = (1.0, 0.3, 0.03)
    penalties: tuple[float, ...] = (3e-1, 1e-1, 3e-2, 1e-2, 3e-3, 1e-3, 3e-4, 1e-4)
    iterations: int = 100


@dataclass(frozen=True, kw_only=True)
class MlpSettings:
    """Settings of the dense layers: AdamW on a one-cycle schedule, the epoch of lowest validation log-loss kept.

    `columns`: feature columns that they see, chosen as for the trees; `shrinkages`: shares of the identity in the
    covariance within classes that whitens these, the layers learnt with each, the best on validation kept; `hidden`:
    units of each hidden layer; `input_dropout`: share of the columns dropped; `dropout`: share of the units dropped
    before each hidden layer but the first; `batches`: batches of an epoch, so that small sets and large ones are learnt
    in as many steps; `learning_rate`: the schedule's highest.
    """

    columns: int = 4096
    shrinkages: tuple[float, ...] = (0.9, 0.1)
    hidden: tuple[int, ...] = (1024, 1024)
    input_dropout: float = 0.2
    dropout: float = 0.5
    epochs: int = 12
    batches: int = 64
    learning_rate: float = 1e-4
    weight_decay: float = 1e-2


@dataclass(frozen=True, kw_only=True)
class KnnSettings:
    """Settings of the nearest neighbours.

    `columns`: feature columns that they see, chosen as for the trees; `components`: principal components of these at
    most; `neighbours`: how many may vote, each tried on validation.
    """

    columns: int = 4096
    components: int = 128
    neighbours: tuple[int, ...] = (1, 3, 5, 10, 20)


@dataclass(frozen=True, kw_only=True)
class HybridSettings:
    """Settings of the hybrid: the names of the heads that it is made of."""

    parts: tuple[str, ...] = ("xgb", "linear", "mlp")


HEAD_SETTINGS: dict[str, Any] = {
    "xgb": XgbSettings(),
    "linear": LinearSettings(),
    "mlp": MlpSettings(),
    "knn": KnnSettings(),
    "hybrid": HybridSettings(),
}
"""The heads there are, each with its default settings."""
