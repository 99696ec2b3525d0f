"""What a backbone is: a whole network, the nodes it can be cut at, and how its weights want images prepared."""

from __future__ import annotations

import logging
import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import torch
from torch import nn

from features.errors import TrunkError, first_line
from features.trunk.recipe import Recipe
from features.trunk.spec import DEPTHS

logger = logging.getLogger(__name__)

State = dict[str, torch.Tensor]
"""The tensors of a network, by name."""

PERMISSIVE = ("apache-2.0", "mit", "bsd-3-clause")
"""Licenses that ask for no more than that their text goes along."""


@dataclass(frozen=True, kw_only=True)
class Origin:
    """Where published weights come from: their license, and their address or package; empty where nobody says."""

    license: str = ""
    source: str = ""


class Backbone(ABC):
    """A network with random weights drawn from `seed`, by name.

    `node` is what its own classifier sees, `depths` are nodes from early to late that end there; `smallest` is the
    least side in px of the images it takes, the only one where `fixed`. `random_unasked`: whether weights are random
    where there are no others and nothing was asked for.
    """

    name: str
    node: str
    depths: tuple[str, ...]
    smallest: int
    fixed: bool = False
    random_unasked: bool = True
    network: nn.Module
    recipe: Recipe

    @abstractmethod
    def __init__(self, name: str, seed: int) -> None: ...

    @abstractmethod
    def cut(self, nodes: Sequence[str]) -> nn.Module:
        """The part of the network that computes `nodes`: its forward gives a dict of node to tensor, in their order.

        Maps have their channels second, whatever the network has. Parameters are shared with `network`, under the same
        names. Raises TrunkError for a node that it has not.
        """

    def is_cached(self) -> bool:
        """Whether `published` needs no download, as far as can be told without trying."""
        return False

    def whole(self) -> nn.Module:
        """The network with the classifier that its published weights have; random weights, unless it is `network`."""
        return self.network

    def is_of_classifier(self, key: str) -> bool:
        """Whether a tensor of that name belongs to a classifier that files of weights have and `network` has not."""
        return False

    @abstractmethod
    def published(self) -> tuple[State, Recipe]:
        """The weights that the network's own package publishes, and their recipe; raises TrunkError."""

    @property
    def origin(self) -> Origin:
        """Where those of `published` come from."""
        return Origin()

    def nodes(self, text: str | None) -> tuple[str, ...]:
        """The nodes in a text, separated by commas or +: `depths` stands for a spread of them, none for `node`.

        Raises TrunkError where `depths` stands beside others.
        """
        named = dict.fromkeys(filter(None, (node.strip() for node in re.split("[,+]", text or ""))))
        if DEPTHS not in named:
            return tuple(named) or (self.node,)
        if len(named) > 1:
            raise TrunkError(f"`node={text}` mixes {DEPTHS} with other nodes: give {DEPTHS} alone, or the nodes")
        return self.depths

    def check_image_size(self, image_size: int) -> None:
        """Raise TrunkError for images that are too small, or not of the one size that the network takes."""
        if image_size < self.smallest or (self.fixed and image_size != self.smallest):
            expected = f"{self.smallest}{'' if self.fixed else ' or more'}"
            raise TrunkError(f"`image_size={image_size}` does not suit {self.name}: expected {expected}")

    @torch.inference_mode()
    def outputs_of_blank(self, module: nn.Module, image_size: int) -> State:
        """What `module`, a part of the network, gives at each node for one blank image.

        (1, d), (1, tokens, d) or (1, channels, h, w) by node; raises TrunkError for what else.
        """
        try:
            outputs: State = module(torch.zeros(1, 3, image_size, image_size))
        except (RuntimeError, AssertionError) as error:  # timm asserts the size of some networks' images
            raise TrunkError(
                f"{self.name} cannot take images of {image_size} px ({first_line(error)}): "
                f"give another `image_size`, or none for its own {self.recipe.image_size}"
            ) from error
        for node, output in outputs.items():
            if not isinstance(output, torch.Tensor) or output.ndim not in (2, 3, 4):
                raise TrunkError(f"node {node!r} of {self.name} gives no features: expected a vector, tokens or a map")
        return outputs


@cache
def say_license(name: str, license_: str) -> None:
    """Warn, once, that the weights of a network are under a license that has to be read first, or under none known."""
    if license_ in ("", "unknown"):
        logger.warning("of the weights of %s no license is known: ask before you ship what is made with them", name)
    elif license_.lower() not in PERMISSIVE:
        advice = "read it before you ship what is made with them"
        logger.warning("the weights of %s are under %s: %s", name, license_, advice)
