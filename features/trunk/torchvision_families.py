"""torchvision's families of classification networks: where to take their features, and what images they take.

Node names are those of torchvision 0.27; a test walks through every family, so that a release that renames one is
noticed. Light to import, so that a name that fits none is refused at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache

from features.errors import TrunkError
from features.trunk.short_names import SHORT_NAMES, full_name


@dataclass(frozen=True, kw_only=True)
class Family:
    """`depths` are nodes from early to late, the last one what the network's own classifier sees.

    `smallest`: least side in px of an image that reaches all of them, the only one where `fixed`; `nhwc`: how the
    names of nodes begin whose maps have their channels last; `arguments`: of the constructor, so that the network is
    the one that the published weights were made for.
    """

    depths: tuple[str, ...]
    smallest: int
    fixed: bool = False
    nhwc: tuple[str, ...] = ()
    arguments: Mapping[str, int | bool] = field(default_factory=dict)


def _vgg(*blocks: int) -> Family:
    """A VGG by the positions of the last ReLU of its blocks 2 to 5."""
    return Family(depths=(*(f"features.{position}" for position in blocks), "avgpool"), smallest=32)


def _vit(*layers: int, size: int = 224) -> Family:
    """A vision transformer by the numbers of its layers; `getitem_5` is the class token that its head sees."""
    nodes = (*(f"encoder.layers.encoder_layer_{number}.cls_mean" for number in layers), "getitem_5")
    return Family(depths=nodes, smallest=size, fixed=True, arguments={"image_size": size})


_RESNET = Family(depths=("layer1", "layer2", "layer3", "layer4", "flatten"), smallest=1)
_SWIN = Family(
    depths=("features.1", "features.3", "features.5", "features.7", "flatten"), smallest=4, nhwc=("features", "norm")
)
_INCEPTION = {"transform_input": True, "init_weights": False}

FAMILIES: dict[str, Family] = {
    "alexnet": Family(depths=("features.4", "features.7", "features.9", "features.11", "avgpool"), smallest=63),
    "vgg11": _vgg(4, 9, 14, 19),
    "vgg13": _vgg(8, 13, 18, 23),
    "vgg16": _vgg(8, 15, 22, 29),
    "vgg19": _vgg(8, 17, 26, 35),
    "vgg11_bn": _vgg(6, 13, 20, 27),
    "vgg13_bn": _vgg(12, 19, 26, 33),
    "vgg16_bn": _vgg(12, 22, 32, 42),
    "vgg19_bn": _vgg(12, 25, 38, 51),
    "resnet": _RESNET,
    "resnext": _RESNET,
    "wide_resnet": _RESNET,
    "squeezenet": Family(depths=("features.4", "features.7", "features.10", "features"), smallest=21),
    "densenet": Family(depths=(*(f"features.denseblock{block}" for block in (1, 2, 3, 4)), "flatten"), smallest=29),
    "inception_v3": Family(
        depths=("Conv2d_4a_3x3", "Mixed_5d", "Mixed_6e", "Mixed_7c", "flatten"), smallest=75, arguments=_INCEPTION
    ),
    "googlenet": Family(
        depths=("conv3", "inception3b", "inception4e", "inception5b", "flatten"), smallest=15, arguments=_INCEPTION
    ),
    "shufflenet_v2": Family(depths=("stage2", "stage3", "stage4", "conv5", "mean"), smallest=1),
    "mobilenet_v2": Family(depths=("features.3", "features.6", "features.13", "features.18", "flatten"), smallest=1),
    "mobilenet_v3_large": Family(
        depths=("features.3", "features.6", "features.12", "features.16", "classifier.2"), smallest=1
    ),
    "mobilenet_v3_small": Family(
        depths=("features.1", "features.3", "features.8", "features.12", "classifier.2"), smallest=1
    ),
    "efficientnet_b": Family(depths=("features.2", "features.3", "features.5", "features.8", "flatten"), smallest=1),
    "efficientnet_v2_s": Family(depths=("features.2", "features.3", "features.5", "features.7", "flatten"), smallest=1),
    "efficientnet_v2": Family(depths=("features.2", "features.3", "features.5", "features.8", "flatten"), smallest=1),
    "convnext": Family(depths=("features.1", "features.3", "features.5", "features.7", "classifier.1"), smallest=32),
    "vit_b": _vit(2, 5, 8, 11),
    "vit_l": _vit(5, 11, 17, 23),
    "vit_h": _vit(7, 15, 23, 31, size=518),
    "swin": _SWIN,
    "swin_v2": _SWIN,
}
"""By how the names of their networks begin; the longest that fits counts."""


def check_beginning(name: str) -> None:
    """Raise TrunkError for a name that is no short one, and begins as none of torchvision's or another package does."""
    if ":" not in full_name(name) and not name.startswith((*FAMILIES, "efficientnet_lite")):
        raise TrunkError(
            f"unknown backbone {name!r}: expected timm:NAME, efficientnet_lite0, {', '.join(SHORT_NAMES)}, or one that "
            f"begins with {', '.join(FAMILIES)}"
        )


@cache
def vision_names() -> tuple[str, ...]:
    """Every network of FAMILIES that the installed torchvision has."""
    from torchvision import models

    return tuple(name for name in models.list_models(module=models) if name.startswith(tuple(FAMILIES)))


def family_of(name: str) -> Family:
    """The family of a network; raises TrunkError for one that torchvision has not, and lists those that it has."""
    if name not in vision_names():
        from features.trunk.loaded import BACKBONES

        others = ", ".join((*(f"{prefix}NAME" for prefix in BACKBONES if prefix), *SHORT_NAMES))
        raise TrunkError(f"unknown backbone {name!r}: expected {others}, or one of {', '.join(vision_names())}")
    return FAMILIES[max((prefix for prefix in FAMILIES if name.startswith(prefix)), key=len)]
