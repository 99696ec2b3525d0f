"""What a backbone is: a whole network, the nodes it can be cut at, and how its weights want images prepared."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

from torch import nn

from features.trunk.recipe import Recipe
from features.trunk.weights import State


class Backbone(ABC):
    """A network with random weights, by name.

    `node` is what its own classifier sees, `depths` are nodes from early to late that end there; `smallest` is the
    least side in px of the images it takes, the only one where `fixed`; `nhwc` is how the names of nodes begin whose
    maps have channels last, as Swin's are.
    """

    name: str
    node: str
    depths: tuple[str, ...]
    smallest: int
    fixed: bool = False
    nhwc: tuple[str, ...] = ()
    network: nn.Module
    recipe: Recipe

    def is_nhwc(self, node: str) -> bool:
        """Whether the node's map has its channels last."""
        return node.startswith(self.nhwc)

    @abstractmethod
    def cut(self, nodes: Sequence[str]) -> nn.Module:
        """The part of the network that computes `nodes`: its forward gives a dict of node to tensor, in their order.

        Parameters are shared with `network`, under the same names. Raises TrunkError for a node that it has not.
        """

    def is_cached(self) -> bool:
        """Whether `published` needs no download, as far as can be told without trying."""
        return False

    @abstractmethod
    def published(self) -> tuple[State, Recipe]:
        """The weights that the network's own package publishes, and their recipe; raises TrunkError."""
