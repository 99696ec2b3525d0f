"""timm's networks, cut by timm itself: its stages, and what its own classifier sees."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from functools import partial
from typing import Any

import timm
import torch
from huggingface_hub import try_to_load_from_cache
from torch import nn

from features.errors import TrunkError, first_line
from features.trunk.backbone import Backbone, State
from features.trunk.recipe import Recipe
from features.trunk.torchvision_backbone import cached_path

PRE_LOGITS = "pre_logits"

FILES = ("model.safetensors", "pytorch_model.bin")
"""What files of weights are called on the Hugging Face hub."""

MOST_DEPTHS = 4
"""Stages that `depths` takes, evenly spread and the last among them."""


class TimmBackbone(Backbone):
    """A network of timm; its nodes are `stage1`, `stage2` … and `pre_logits`."""

    smallest = 1  # timm says itself what does not fit
    random_unasked = False

    def __init__(self, name: str, seed: int) -> None:
        self.name = f"timm:{name}"
        if not timm.is_model(name):
            near = ", ".join(timm.list_models(f"{name[:5]}*")[:8]) or "see timm.list_models()"
            raise TrunkError(f"unknown backbone {self.name!r}: expected a model of timm {timm.__version__} ({near})")
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            try:
                network: Any = timm.create_model(name, pretrained=False, num_classes=0)
            except RuntimeError as error:
                raise TrunkError(f"unknown backbone {self.name!r}: {first_line(error)}") from error
        if not hasattr(network, "forward_intermediates"):
            raise TrunkError(f"{self.name} does not give its stages: choose another model of timm")
        self._model, self.network, self._config = name, network, network.pretrained_cfg
        info = network.feature_info
        self.stages = tuple(
            f"stage{n}" for n in range(1, len(info.get_dicts() if hasattr(info, "get_dicts") else info) + 1)
        )
        step = max(1, len(self.stages) / MOST_DEPTHS)
        spread = [self.stages[round(step * (n + 1)) - 1] for n in range(min(MOST_DEPTHS, len(self.stages)))]
        self.node, self.depths = PRE_LOGITS, (*spread, PRE_LOGITS)
        self.recipe = _recipe(network.pretrained_cfg)

    def cut(self, nodes: Sequence[str]) -> nn.Module:
        """See Backbone."""
        unknown = [node for node in nodes if node not in (*self.stages, PRE_LOGITS)]
        if unknown:
            choices = ", ".join((*self.stages, PRE_LOGITS))
            raise TrunkError(f"unknown node {unknown[0]!r} of {self.name}: expected one of {choices}")
        module: nn.Module = copy.copy(self.network)  # shares all tensors, under the same names
        module.forward = partial(_run, self.network, tuple(nodes))
        return module

    def whole(self) -> nn.Module:
        """See Backbone."""
        network: nn.Module = timm.create_model(self._model, pretrained=False)
        return network

    def is_of_classifier(self, key: str) -> bool:
        """See Backbone."""
        names = self._config["classifier"]
        return key.startswith(tuple(f"{name}." for name in ([names] if isinstance(names, str) else names or ())))

    def is_cached(self) -> bool:
        """See Backbone."""
        source = self._config["hf_hub_id"]
        if not source:
            return cached_path(self._config["url"] or "none").exists()
        return any(isinstance(try_to_load_from_cache(source, name), str) for name in FILES)

    def published(self) -> tuple[State, Recipe]:
        """See Backbone."""
        try:
            network: Any = timm.create_model(self._model, pretrained=True)
        except Exception as error:  # the hub's client has its own for every way of failing
            raise TrunkError(
                f"the weights of {self.name} are not cached and could not be downloaded ({first_line(error)}): "
                "give `weights` a file"
            ) from error
        return dict(network.state_dict()), _recipe(network.pretrained_cfg)


def _run(network: Any, nodes: tuple[str, ...], images: torch.Tensor) -> dict[str, torch.Tensor]:
    """One pass through `network`: what each of `nodes` gives."""
    stages = sorted(int(node.removeprefix("stage")) - 1 for node in nodes if node != PRE_LOGITS)
    names = [f"stage{number + 1}" for number in stages]
    if not stages:
        return {PRE_LOGITS: network.forward_head(network.forward_features(images), pre_logits=True)}
    options = {"indices": stages, "output_fmt": "NCHW", "norm": False}
    if PRE_LOGITS not in nodes:
        maps = network.forward_intermediates(images, **options, intermediates_only=True, stop_early=True)
        return dict(zip(names, maps, strict=True))
    final, maps = network.forward_intermediates(images, **options)
    return {**dict(zip(names, maps, strict=True)), PRE_LOGITS: network.forward_head(final, pre_logits=True)}


def _recipe(config: Any) -> Recipe:
    size = config["input_size"][-1]
    return Recipe(
        image_size=size,
        resize=int(size / config["crop_pct"]),
        interpolation=config["interpolation"],
        mean=tuple(config["mean"]),
        std=tuple(config["std"]),
    )
