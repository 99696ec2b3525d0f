"""A network opened by name: the backbone, its weights, and the part of it that computes the nodes asked for."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pkgutil import resolve_name

from torch import nn

from features.trunk.backbone import Backbone
from features.trunk.recipe import Recipe
from features.trunk.spec import NetworkOptions
from features.trunk.weights import Weights, state_sha256

TORCHVISION = ""
"""How the names of torchvision's networks begin: as they do there."""

BACKBONES = {
    TORCHVISION: "features.trunk.torchvision_backbone:TorchvisionBackbone",
    "timm:": "features.trunk.timm_backbone:TimmBackbone",
}
"""The class of a backbone by how its name begins; imported when it is asked for, as some packages are optional."""


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """A backbone with its `weights`, never `auto`; `module` is the part of it that computes `nodes`, frozen.

    `recipe` is how the weights want images prepared, at the size asked for; `seed` is that of random weights.
    """

    backbone: Backbone
    weights: Weights
    seed: int
    nodes: tuple[str, ...]
    module: nn.Module
    recipe: Recipe

    def sha256(self, node: str) -> str:
        """SHA-256 of the tensors that `node` needs, see `state_sha256`."""
        return state_sha256(self.cut(node).module)

    def cut(self, node: str) -> Loaded:
        """The same network with the same weights up to one node alone, which may not lie behind all of `nodes`."""
        if self.nodes == (node,):
            return self
        module = freeze(self.backbone.cut([node]))
        assert module.state_dict().keys() <= self.module.state_dict().keys(), "layers behind `nodes` have no weights"
        return replace(self, nodes=(node,), module=module)


def open_network(options: NetworkOptions, *, node: str | None = None, seed: int = 0) -> Loaded:
    """Open a network with its weights, cut at `node`: see `Backbone.nodes`.

    Raises TrunkError for an unknown name, weights that do not fit, or an image size that the network does not take.
    """
    backbone = open_backbone(options.backbone, seed)
    nodes = backbone.nodes(node)
    module = freeze(backbone.cut(nodes))
    weights = Weights.parse(options.weights).chosen_for(backbone)
    recipe = weights.load(backbone, module).at(options.image_size)
    backbone.check_image_size(recipe.image_size)
    return Loaded(backbone=backbone, weights=weights, seed=seed, nodes=nodes, module=module, recipe=recipe)


def open_backbone(name: str, seed: int) -> Backbone:
    """A network with random weights drawn from `seed`; raises TrunkError for a name that is not known."""
    prefix = prefix_of(name)
    kind: type[Backbone] = resolve_name(BACKBONES[prefix])
    return kind(name.removeprefix(prefix), seed)


def prefix_of(name: str) -> str:
    """That of BACKBONES which a network's name begins with."""
    return max(filter(name.startswith, BACKBONES), key=len)


def freeze(module: nn.Module) -> nn.Module:
    """Stop both gradients and batch-norm statistics: no parameter and no buffer changes from here on."""
    return module.eval().requires_grad_(False)
