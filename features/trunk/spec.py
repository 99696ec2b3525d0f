"""What a trunk is asked to be, and what it became: everything that decides a feature's value, apart from the image."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

DEPTHS = "depths"
"""Stands for the spread of nodes that each backbone names."""

RANDOM_WEIGHTS = "random"

NAMED_WEIGHTS = ("imagenet", "bundled", RANDOM_WEIGHTS)
"""Weights that are no file of the user's: torchvision's, those that come with this project, or none learnt."""

RETRAINED = "retrained"
"""Weights that have gone on learning here, in a TrunkSpec."""

FROM_SCRATCH = "from scratch"
"""Weights that have learnt here from random ones, in a TrunkSpec."""

AUTO_WEIGHTS = "auto"
"""Stands for the best of NAMED_WEIGHTS that are on this machine; what a person gets who asks for none."""


@dataclass(frozen=True, kw_only=True)
class TrunkSpec:
    """Everything that decides a feature's value, apart from the image.

    `weights` is one of NAMED_WEIGHTS, the name of a file, or RETRAINED or FROM_SCRATCH for a network that learnt here;
    `weights_sha256` is that of the tensors that `node` needs (see `state_sha256`), so that the same weights make the
    same table from any file; `seed` is that of random weights, else None. Sizes are in pixels: the shorter side becomes
    `resize`, the centre `image_size` is what the network sees. `pool`, `precision` and `decoder` are what was done,
    never `auto`.
    """

    backbone: str
    weights: str
    weights_sha256: str
    seed: int | None
    node: str
    pool: str
    image_size: int
    resize: int
    interpolation: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    precision: str = "fp32"
    compiled: bool = False
    decoder: str = "pillow"

    @property
    def pretrained(self) -> bool:
        """Whether anything was learnt elsewhere: random weights, and what was made of them here, transfer nothing."""
        return self.weights not in (RANDOM_WEIGHTS, FROM_SCRATCH)

    def to_json(self) -> dict[str, Any]:
        """A dictionary that JSON can hold; `from_json` turns it back."""
        return asdict(self) | {"mean": list(self.mean), "std": list(self.std)}

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> TrunkSpec:
        """The spec that `to_json` wrote."""
        return cls(**content | {"mean": tuple(content["mean"]), "std": tuple(content["std"])})


@dataclass(frozen=True, kw_only=True)
class TrunkOptions:
    """What is asked of a trunk; what is left open becomes the backbone's own, and a TrunkSpec says what it became.

    `weights` is one of NAMED_WEIGHTS (`random` is drawn from `seed`), AUTO_WEIGHTS or a file; `nodes` may be (DEPTHS,),
    and none is the node that the backbone's own classifier sees.
    """

    backbone: str
    weights: str = RANDOM_WEIGHTS
    nodes: tuple[str, ...] = ()
    pool: str = "auto"
    image_size: int | None = None
    precision: str = "auto"
    compiled: bool = False
    decoder: str = "pillow"
    seed: int = 0


def parse_nodes(text: str | None) -> tuple[str, ...]:
    """The nodes in a text that separates them by commas."""
    return tuple(filter(None, (node.strip() for node in (text or "").split(","))))
