"""timm's networks, cut by timm itself: its stages, their class tokens, and what its own classifier sees."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Sequence
from functools import partial
from math import ceil
from typing import Any, cast

import timm
import torch
from huggingface_hub import try_to_load_from_cache
from timm.models import is_model_in_modules
from torch import nn

from features.errors import TrunkError, first_line
from features.trunk.backbone import Backbone, Origin, State
from features.trunk.pooling import CLS_MEAN, READINGS, read_tokens
from features.trunk.recipe import Recipe
from features.trunk.short_names import LICENSES
from features.trunk.torchvision_backbone import cached_path

PRE_LOGITS = "pre_logits"

PLAIN_TRANSFORMERS = ("vision_transformer", "deit")
"""timm's modules of networks that interpolate their position embedding at no cost to those who do not need it."""

FILES = ("model.safetensors", "pytorch_model.bin")
"""What files of weights are called on the Hugging Face hub."""

MOST_DEPTHS = 4
"""Stages that `depths` takes, evenly spread and the last among them.

Of a transformer with a class token they are `cls_mean`: narrow, and what DINOv2's linear probes see of the last block.
Theirs with four blocks take the last four for classes; a quarter apart, as theirs for depth maps, they differ more, and
where a class token has gathered little, the patches' mean tells of texture and colour.
"""


class TimmBackbone(Backbone):
    """A network of timm; its nodes are `stage1`, `stage2` … and `pre_logits`.

    Where transformers have a class token, there are `stage1.cls` and `stage1.cls_mean` too (see `read_tokens`), after
    the norm that the network ends with; those that norm what they pool instead have them as the block gives them.
    """

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
                network: Any = _create(name, num_classes=0)
            except RuntimeError as error:
                raise TrunkError(f"unknown backbone {self.name!r}: {first_line(error)}") from error
        if not hasattr(network, "forward_intermediates"):
            raise TrunkError(f"{self.name} does not give its stages: choose another model of timm")
        self._model, self.network, self._config = name, network, network.pretrained_cfg
        info = network.feature_info
        count = len(info.get_dicts() if hasattr(info, "get_dicts") else info)
        self.stages = tuple(f"stage{number}" for number in range(1, count + 1))
        self._readings = READINGS if _has_class_token(network) else ()
        read = f".{CLS_MEAN}" if self._readings else ""
        self.node, self.depths = PRE_LOGITS, (*(f"{stage}{read}" for stage in _spread(self.stages)), PRE_LOGITS)
        self.recipe = _recipe(network.pretrained_cfg)

    def cut(self, nodes: Sequence[str]) -> nn.Module:
        read = {f"{stage}.{reading}" for stage in self.stages for reading in self._readings}
        unknown = [node for node in nodes if node not in {*self.stages, *read, PRE_LOGITS}]
        if unknown:
            choices = ", ".join((*self.stages, *(f"stageN.{reading}" for reading in self._readings), PRE_LOGITS))
            raise TrunkError(f"unknown node {unknown[0]!r} of {self.name}: expected one of {choices}")
        module: nn.Module = copy.copy(self.network)  # shares all tensors, under the same names
        module.forward = partial(_run, self.network, tuple(nodes))
        return module

    def whole(self) -> nn.Module:
        network: nn.Module = _create(self._model)
        return network

    def is_of_classifier(self, key: str) -> bool:
        names = self._config["classifier"]
        return key.startswith(tuple(f"{name}." for name in ([names] if isinstance(names, str) else names or ())))

    def is_cached(self) -> bool:
        source = self._config["hf_hub_id"]
        if not source:
            return cached_path(self._config["url"] or "none").exists()
        return any(isinstance(try_to_load_from_cache(source, name), str) for name in FILES)

    @property
    def origin(self) -> Origin:
        config = self._config
        known = LICENSES.get(f"{config['architecture']}.{config['tag']}", config.get("license"))
        return Origin(license=known or "", source=config["hf_hub_id"] or config["url"] or "")

    def published(self) -> tuple[State, Recipe]:
        try:
            network: Any = _create(self._model, pretrained=True)
        except Exception as error:  # the hub's client has its own for every way of failing
            raise TrunkError(
                f"the weights of {self.name} are not cached and could not be downloaded ({first_line(error)}): "
                "give `weights` a file"
            ) from error
        return dict(network.state_dict()), _recipe(network.pretrained_cfg)


def _create(name: str, **options: Any) -> Any:
    """A model of timm; plain transformers are told to take images of any size that their patches divide.

    Most convolutional ones take any without being told; Swin and EVA would be slower at their own size, too.
    """
    plain = is_model_in_modules(name.partition(".")[0], PLAIN_TRANSFORMERS)
    return timm.create_model(name, dynamic_img_size=plain or None, **options)  # timm leaves out what is None


def _spread(stages: Sequence[str]) -> list[str]:
    """MOST_DEPTHS of these at most; the first stages of all teach least."""
    step = max(1, len(stages) / MOST_DEPTHS)
    return [stages[ceil(step * (n + 1)) - 1] for n in range(min(MOST_DEPTHS, len(stages)))]


def _has_class_token(network: Any) -> bool:
    """Whether `network` has one and gives it at its blocks; NaFlexViTs keep it with their embeddings."""
    gives_it = "return_prefix_tokens" in inspect.signature(network.forward_intermediates).parameters
    return gives_it and getattr(getattr(network, "embeds", network), "cls_token", None) is not None


def _run(network: Any, nodes: tuple[str, ...], images: torch.Tensor) -> dict[str, torch.Tensor]:
    """One pass through `network`: what each of `nodes` gives."""
    places = {node: node.removeprefix("stage").partition(".") for node in nodes if node != PRE_LOGITS}
    if not places:
        return {PRE_LOGITS: network.forward_head(network.forward_features(images), pre_logits=True)}
    blocks = sorted({int(number) - 1 for number, *_ in places.values()})
    options: dict[str, Any] = {"indices": blocks, "output_fmt": "NCHW", "norm": False}
    if any(reading for *_, reading in places.values()):
        options["return_prefix_tokens"] = True
    outputs: dict[str, torch.Tensor] = {}
    if PRE_LOGITS in nodes:
        final, found = network.forward_intermediates(images, **options)
        outputs[PRE_LOGITS] = network.forward_head(final, pre_logits=True)
    else:
        found = network.forward_intermediates(images, **options, intermediates_only=True, stop_early=True)
    by_block = dict(zip(blocks, found, strict=True))
    for node, (number, _, reading) in places.items():
        outputs[node] = _read(network, by_block[int(number) - 1], reading)
    return {node: outputs[node] for node in nodes}


def _read(network: Any, found: Any, reading: str) -> torch.Tensor:
    """What a block gives, a map or (map, prefix tokens), read in that way; without one, the map."""
    places, prefix = found if isinstance(found, tuple) else (found, None)
    if not reading:
        return cast("torch.Tensor", places)
    tokens = torch.cat([prefix, places.flatten(2).transpose(1, 2)], dim=1)
    return read_tokens(network.norm(tokens), reading, prefix.shape[1])


def _recipe(config: Any) -> Recipe:
    size = config["input_size"][-1]
    return Recipe(
        image_size=size,
        resize=int(size / config["crop_pct"]),
        interpolation=config["interpolation"],
        mean=tuple(config["mean"]),
        std=tuple(config["std"]),
    )
