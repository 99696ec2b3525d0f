"""torchvision's classification networks, cut with its feature extraction."""

from __future__ import annotations

import copy
import operator
import re
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import cast

import torch
from torch import fx, nn
from torchvision.models import WeightsEnum, get_model, get_model_weights
from torchvision.models.feature_extraction import create_feature_extractor, get_graph_node_names

from features.errors import TrunkError
from features.storage import file_sha256
from features.trunk.backbone import Backbone, Origin, State
from features.trunk.pooling import READINGS, read_tokens
from features.trunk.recipe import Recipe
from features.trunk.torchvision_families import family_of

_OLD_DENSENET = re.compile(r"^(.*denselayer\d+\.(?:norm|conv))\.([12])\.")
"""torchvision's DenseNet files are older than its names: norm.1 became norm1."""

_TOKENS = re.compile(rf"(encoder\.layers\.encoder_layer_\d+)\.({'|'.join(READINGS)})$")
"""Nodes that are read from the tokens that another gives."""


class TorchvisionBackbone(Backbone):
    """A network of torchvision with random weights drawn from `seed`."""

    def __init__(self, name: str, seed: int) -> None:
        family = family_of(name)
        self.name = name
        self.node, self.depths, self.smallest = family.depths[-1], family.depths, family.smallest
        self.fixed, self._nhwc = family.fixed, family.nhwc
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.network: nn.Module = get_model(name, weights=None, **family.arguments)
        self.recipe = _recipe(next(iter(get_model_weights(name))))

    def cut(self, nodes: Sequence[str]) -> nn.Module:
        with warnings.catch_warnings(action="ignore"):  # that training has other nodes: what is cut switches to them
            _, names = get_graph_node_names(self.network.eval())
        names = names[1:]  # the first is the network's input
        given = {node: _TOKENS.sub(r"\1", node) for node in nodes}
        for node, whole in given.items():
            if not any(name == whole or name.startswith(f"{whole}.") for name in names):
                raise TrunkError(f"unknown node {node!r} of {self.name}: expected one of {_choices(names)}")
        with warnings.catch_warnings(action="ignore"):
            module = create_feature_extractor(self.network, {whole: whole for whole in given.values()})
        if set(given) != set(given.values()):
            module.add_submodule("encoder.ln", self.network.get_submodule("encoder.ln"))
        _read_outputs(module, given, self._nhwc)
        return _without_in_place(module) if len(nodes) > 1 else module

    def is_cached(self) -> bool:
        return cached_path(get_model_weights(self.name)["DEFAULT"].url).exists()

    @property
    def origin(self) -> Origin:
        weights = get_model_weights(self.name)["DEFAULT"]
        return Origin(license=weights.meta.get("license", "BSD-3-Clause"), source=weights.url)

    def published(self) -> tuple[State, Recipe]:
        weights = get_model_weights(self.name)["DEFAULT"]
        state = {_OLD_DENSENET.sub(r"\1\2.", key): value for key, value in downloaded_state(weights.url).items()}
        return state, _recipe(weights)


def cached_path(url: str) -> Path:
    """Where torchvision keeps the weights that it has downloaded from `url`."""
    return Path(torch.hub.get_dir(), "checkpoints", url.rsplit("/", 1)[-1])


def downloaded_state(url: str) -> State:
    """Torchvision's weights from its cache, downloaded where absent; the hash in the file's name is checked."""
    path = cached_path(url)
    prefix = path.name.rsplit("-", 1)[-1].split(".")[0]
    if not path.exists():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(url, str(path), hash_prefix=prefix)
        except (OSError, RuntimeError) as error:
            raise TrunkError(
                f"the imagenet weights are not at {path} and could not be downloaded ({error}): "
                "put the file there, or give `weights` a file"
            ) from error
    if not file_sha256(path).startswith(prefix):
        raise TrunkError(f"{path} is damaged (its SHA-256 does not begin with {prefix}): delete it and run again")
    state: State = torch.load(path, map_location="cpu", weights_only=True)
    return state


def _recipe(weights: WeightsEnum) -> Recipe:
    transforms = weights.transforms()
    return Recipe(
        image_size=transforms.crop_size[0],
        resize=transforms.resize_size[0],
        interpolation=transforms.interpolation.value,
        mean=tuple(transforms.mean),
        std=tuple(transforms.std),
    )


def _choices(names: Sequence[str]) -> str:
    """The outer ones of a network's nodes, and those that are read from the tokens of a transformer's layers."""
    outer = list(dict.fromkeys(".".join(name.split(".")[:2]) for name in names))
    readings = READINGS if "encoder.layers" in outer else ()
    return ", ".join(outer + [f"encoder.layers.encoder_layer_N.{reading}" for reading in readings])


def _read_outputs(module: fx.GraphModule, given: Mapping[str, str], nhwc: tuple[str, ...]) -> None:
    """Let `module` give nodes that are read from others', which it gives already, and maps with their channels second.

    An encoder norms its tokens last; the names of nodes whose maps have channels last begin as one of `nhwc`.
    """
    for graph in cast("list[fx.Graph]", [module.train_graph, module.eval_graph]):
        (end,) = graph.find_nodes(op="output")
        outputs = dict(cast("dict[str, fx.Node]", end.args[0]))
        with graph.inserting_before(end):
            for node in given:
                if match := _TOKENS.match(node):
                    normed = graph.call_module("encoder.ln", (outputs[match[1]],))
                    outputs[node] = graph.call_function(read_tokens, (normed, match[2]))
                elif node.startswith(nhwc):
                    outputs[node] = graph.call_function(_channels_second, (outputs[node],))
        end.args = ({node: outputs[node] for node in given},)
    module.recompile()


def _channels_second(output: torch.Tensor) -> torch.Tensor:
    return output.permute(0, 3, 1, 2) if isinstance(output, torch.Tensor) and output.ndim == 4 else output


def _without_in_place(module: fx.GraphModule) -> fx.GraphModule:
    """Let no layer write over its input, which may be the output of a node that was asked for.

    Layers are replaced by copies: those of the network itself stay as they are.
    """
    for name, layer in list(module.named_modules()):
        if getattr(layer, "inplace", False):
            own = copy.copy(layer)
            own.inplace = False
            module.set_submodule(name, own)
    for node in module.graph.nodes:
        if node.kwargs.get("inplace"):
            node.kwargs = {**node.kwargs, "inplace": False}
        if node.target is operator.iadd:
            node.target = operator.add
    module.recompile()
    return module
