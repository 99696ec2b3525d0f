"""A network opened by name: the backbone, its weights, and the part of it that computes the nodes asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pkgutil import resolve_name

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from features.errors import TrunkError
from features.trunk.backbone import Backbone, Origin
from features.trunk.recipe import Recipe
from features.trunk.short_names import full_name
from features.trunk.spec import AUTO, BUNDLED, IMAGENET, NetworkOptions, TrunkOptions
from features.trunk.weights import Weights, state_sha256

TORCHVISION = ""
"""How the names of torchvision's networks begin: as they do there."""

BACKBONES = {
    TORCHVISION: "features.trunk.torchvision_backbone:TorchvisionBackbone",
    "timm:": "features.trunk.timm_backbone:TimmBackbone",
    "efficientnet_lite": "features.trunk.packaged_backbone:PackagedBackbone",
}
"""The class of a backbone by how its name begins; imported when it is asked for, as some packages are optional."""

DRAWS = frozenset(
    (
        torch.Tensor.normal_,
        torch.Tensor.uniform_,
        nn.init.kaiming_normal_,
        nn.init.kaiming_uniform_,
        nn.init.normal_,
        nn.init.uniform_,
    )
)
"""How networks draw their first weights; what draws otherwise takes its time."""


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

    @property
    def origin(self) -> Origin:
        """Where the weights come from."""
        if self.weights.name == IMAGENET:
            return self.backbone.origin
        if self.weights.name == BUNDLED:
            return Origin(license="BSD-3-Clause, and ImageNet's terms", source="treehead")
        return Origin(source=self.weights.reopen if self.weights.file else "")

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
    asked = Weights.parse(options.weights)
    others_come = asked.pretrained and asked != Weights(AUTO)  # `auto` may come to mean random ones
    with _Undrawn() if others_come else nullcontext():
        backbone = open_backbone(options.backbone, seed)
    nodes = backbone.nodes(node)
    module = freeze(backbone.cut(nodes))
    weights = asked.chosen_for(backbone)
    recipe = weights.load(backbone, module).asked(options)
    backbone.check_image_size(recipe.image_size)
    return Loaded(backbone=backbone, weights=weights, seed=seed, nodes=nodes, module=module, recipe=recipe)


def open_networks(options: TrunkOptions, *, seed: int = 0) -> tuple[Loaded, ...]:
    """Open each network that `options` name; raises TrunkError as `open_network` does."""
    return tuple(open_network(one, node=one.node, seed=seed) for one in options.each())


def weights_of(networks: Sequence[Loaded]) -> str:
    """What `TrunkOptions.weights` takes to mean those of `networks` from any folder; raises TrunkError."""
    texts = [loaded.weights.reopen for loaded in networks]
    odd = [text for text in texts if "," in text]
    if odd and len(texts) > 1:
        raise TrunkError(f"{odd[0]} has a comma in its name, which separates the weights of networks: rename it")
    return ",".join(texts)


def open_backbone(name: str, seed: int) -> Backbone:
    """A network with random weights drawn from `seed`; raises TrunkError for a name that is not known."""
    name = full_name(name)
    prefix = prefix_of(name)
    kind: type[Backbone] = resolve_name(BACKBONES[prefix])
    return kind(name.removeprefix(prefix), seed)


def prefix_of(name: str) -> str:
    """That of BACKBONES which a network's name begins with."""
    return max(filter(name.startswith, BACKBONES), key=len)


class _Undrawn(TorchFunctionMode):
    """Leaves parameters as memory has them: drawing those of AlexNet takes longer than all of its prediction."""

    def __torch_function__(
        self,
        func: Callable[..., object],
        types: Iterable[type],
        args: tuple[object, ...] = (),
        kwargs: dict[str, object] | None = None,
    ) -> object:
        kwargs = kwargs or {}
        if func in DRAWS:
            return args[0] if args else kwargs["tensor"]
        return func(*args, **kwargs)


def freeze(module: nn.Module) -> nn.Module:
    """Stop both gradients and batch-norm statistics: no parameter and no buffer changes from here on."""
    return module.eval().requires_grad_(False)
