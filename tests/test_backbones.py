"""Every family through one contract, with random weights and small images."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
import torch

from features.errors import TrunkError
from features.trunk.loaded import BACKBONES, TORCHVISION, open_backbone, prefix_of
from features.trunk.spec import SMALLEST_IMAGE, TrunkOptions
from features.trunk.torchvision_families import FAMILIES, family_of, vision_names
from features.trunk.trunk import Trunk, build_trunk
from features.trunk.weights import Weights, state_sha256
from tests.conftest import CPU

LIGHTEST = {
    "alexnet": "alexnet",
    "vgg11": "vgg11",
    "vgg11_bn": "vgg11_bn",
    "vgg13": "vgg13",
    "vgg13_bn": "vgg13_bn",
    "vgg16": "vgg16",
    "vgg16_bn": "vgg16_bn",
    "vgg19": "vgg19",
    "vgg19_bn": "vgg19_bn",
    "resnet": "resnet18",
    "resnext": "resnext50_32x4d",
    "wide_resnet": "wide_resnet50_2",
    "squeezenet": "squeezenet1_1",
    "densenet": "densenet121",
    "inception_v3": "inception_v3",
    "googlenet": "googlenet",
    "shufflenet_v2": "shufflenet_v2_x0_5",
    "mobilenet_v2": "mobilenet_v2",
    "mobilenet_v3_large": "mobilenet_v3_large",
    "mobilenet_v3_small": "mobilenet_v3_small",
    "efficientnet_b": "efficientnet_b0",
    "efficientnet_v2_s": "efficientnet_v2_s",
    "efficientnet_v2": "efficientnet_v2_m",
    "convnext": "convnext_tiny",
    "vit_b": "vit_b_32",
    "swin": "swin_t",
    "swin_v2": "swin_v2_t",
}
"""Each family's lightest network; vit_l and vit_h are vit_b with more layers, too heavy to try here."""

OTHERS = {
    "efficientnet_lite0": 96,
    "timm:legacy_xception": 96,
    "timm:resnet10t": 96,
    "timm:vit_tiny_patch16_224": None,
    "timm:swin_tiny_patch4_window7_224": None,
}
"""Networks of other packages, each with an image side, as small as makes sense; None for its own."""


def build(backbone: str, *, seed: int = 0, **options: Any) -> Trunk:
    usual = {"backbone": backbone, "weights": "random", "precision": "fp32"}
    return build_trunk(TrunkOptions(**{**usual, **options}), CPU, seed=seed)


def blank(trunk: Trunk, count: int = 2) -> torch.Tensor:
    size = trunk.spec.image_size
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, 3, size, size), generator=generator).to(torch.uint8)


def small(backbone: str) -> int | None:
    """An image side that the network takes, as small as makes sense."""
    if backbone in OTHERS:
        return OTHERS[backbone]
    family = family_of(backbone)
    return None if family.fixed else max(family.smallest, 48)


def test_every_family_has_a_network_to_try() -> None:
    assert set(LIGHTEST) == set(FAMILIES) - {"vit_l", "vit_h"}
    assert all(family_of(name) is FAMILIES[family] for family, name in LIGHTEST.items())


def test_every_package_has_a_network_to_try() -> None:
    assert set(map(prefix_of, OTHERS)) == set(BACKBONES) - {TORCHVISION}


@pytest.mark.slow
@pytest.mark.parametrize("backbone", [*LIGHTEST.values(), *OTHERS])
def test_contract(backbone: str) -> None:
    generator = torch.get_rng_state()
    whole = open_backbone(backbone, 0)
    assert torch.equal(torch.get_rng_state(), generator)
    trunk = build(backbone, node="depths", image_size=small(backbone))
    before = state_sha256(trunk.module)
    images = blank(trunk)
    first, again = trunk.forward(images), trunk.forward(images)
    assert 3 < len(trunk.specs) <= 5
    assert (trunk.specs[-1].backbone, trunk.specs[-1].node) == (backbone, whole.node)
    assert set(trunk.module.state_dict()) <= set(whole.network.state_dict())
    for dim, spec, features, repeated in zip(trunk.dims, trunk.specs, first, again, strict=True):
        assert features.shape == (2, dim)
        assert np.array_equal(features, repeated)
        assert spec.pool != "auto"
    assert np.unique(first[0]).size > 1  # deeper, random weights without training may leave nothing that float16 holds
    assert not any(layer.training for layer in trunk.module.modules())
    assert not any(parameter.requires_grad for parameter in trunk.module.parameters())
    assert state_sha256(trunk.module) == before


@pytest.mark.parametrize("backbone", ["resnet18", "densenet121"])
def test_a_node_gives_the_same_alone_and_among_others(backbone: str) -> None:
    nodes = ("bn1", "layer1.0.bn2", "flatten") if backbone == "resnet18" else ("features", "flatten")
    together = build(backbone, node=",".join(nodes), image_size=64)
    outputs = together.forward(blank(together))
    for spec, output in zip(together.specs, outputs, strict=True):
        alone = build(backbone, node=spec.node, image_size=64)
        assert alone.spec == spec
        assert np.array_equal(alone.forward(blank(alone))[0], output)


def test_swins_maps_are_pooled_over_places_wherever_their_channels_are() -> None:
    nodes = ("features.7", "norm", "permute", "avgpool", "flatten")
    trunk = build("swin_t", node=",".join(nodes), pool="avg", image_size=48)
    assert trunk.dims == (768,) * 5
    *_, norm, permute, avgpool, flatten = trunk.forward(blank(trunk))
    for features in (norm, permute, avgpool):
        assert features == pytest.approx(flatten, abs=2e-3)


@pytest.mark.parametrize(
    ("backbone", "size", "message"),
    [
        ("alexnet", 62, "`image_size=62` does not suit alexnet: expected 63 or more"),
        ("inception_v3", 74, "`image_size=74` does not suit inception_v3: expected 75 or more"),
        ("vit_b_32", 256, "`image_size=256` does not suit vit_b_32: expected 224"),
    ],
)
def test_images_that_do_not_suit(backbone: str, size: int, message: str) -> None:
    with pytest.raises(TrunkError, match=f"^{re.escape(message)}$"):
        build(backbone, image_size=size)


def test_the_smallest_image_suits() -> None:
    for name in ("alexnet", "squeezenet1_0", "googlenet", "resnet18"):
        assert build(name, node="depths", image_size=max(SMALLEST_IMAGE, family_of(name).smallest)).dims


def test_depths_stand_alone() -> None:
    with pytest.raises(TrunkError, match=r"`node=depths,flatten` mixes depths with other nodes"):
        build("resnet18", node="depths,flatten")


@pytest.mark.parametrize(
    ("backbone", "message"),
    [
        ("resnet19", r"unknown backbone 'resnet19': expected timm:NAME, .*or one of alexnet, .*wide_resnet50_2"),
        ("timm:resnet19", r"unknown backbone 'timm:resnet19': expected a model of timm .*resne"),
        ("timm:resnet18.nonsense", r"unknown backbone 'timm:resnet18.nonsense': Invalid pretrained tag"),
    ],
)
def test_unknown_names(backbone: str, message: str) -> None:
    with pytest.raises(TrunkError, match=message):
        build(backbone)


def test_unknown_nodes_of_timm() -> None:
    with pytest.raises(
        TrunkError, match=r"unknown node 'layer4' of timm:resnet10t: expected one of stage1, .*pre_logits"
    ):
        build("timm:resnet10t", node="layer4")


def test_random_weights_of_timm_depend_on_the_seed_alone() -> None:
    first, again, other = (build("timm:resnet10t", seed=seed).spec.weights_sha256 for seed in (0, 0, 1))
    assert first == again != other


def test_timms_networks_are_not_random_unasked(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(
        TrunkError, match=r"no weights of timm:resnet10t are on this machine: give `weights=imagenet` to"
    ):
        build("timm:resnet10t", weights="auto")
    monkeypatch.setattr("features.trunk.timm_backbone.try_to_load_from_cache", lambda *_: "cached/model.safetensors")
    assert Weights.parse("auto").chosen_for(open_backbone("timm:resnet10t", 0)).name == "imagenet"


def test_every_network_of_a_family_is_known() -> None:
    assert {"vgg19_bn", "efficientnet_v2_l", "swin_v2_b", "vit_h_14", "densenet201"} <= set(vision_names())
    assert not any(name.endswith("_fpn") for name in vision_names())
