"""The two engines: what computes a network, that both give the same, and what is said where one cannot."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from features.errors import TrunkError
from features.frozen_trunk import FrozenTrunk
from features.trunk import engine
from features.trunk.engine import ONNXRUNTIME, TORCH, choose_engine, onnx_forward
from features.trunk.spec import TrunkOptions
from features.trunk.trunk import Trunk, build_trunk, rebuild_trunk
from tests.conftest import CPU

NETWORKS = ("alexnet", "resnet18", "squeezenet1_1", "efficientnet_lite0", "timm:resnet10t")


def build(backbone: str, **options: Any) -> Trunk:
    usual = {"backbone": backbone, "weights": "random", "image_size": 64, "precision": "fp32"}
    return build_trunk(TrunkOptions(**{**usual, **options}), CPU)


def some_images(size: int = 64) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (5, 3, size, size), generator=generator).to(torch.uint8)


@pytest.fixture
def images() -> torch.Tensor:
    return some_images()


@pytest.mark.parametrize("backbone", NETWORKS)
def test_both_engines_give_the_same(backbone: str) -> None:
    size = 224 if backbone == "alexnet" else 64  # whose pooling wants a multiple of six
    ours, theirs = (build(backbone, node="depths", engine=name, image_size=size) for name in (ONNXRUNTIME, TORCH))
    images = some_images(size)
    assert ours.spec.engine.startswith("onnxruntime 1.")
    assert theirs.spec.engine == TORCH
    for found, expected in zip(ours.forward(images), theirs.forward(images), strict=True):
        assert np.abs(found - expected).max() <= 1e-3 * np.abs(expected).max()


def test_a_trunk_is_rebuilt_with_its_engine(images: torch.Tensor) -> None:
    trunk = build("resnet18", engine=ONNXRUNTIME)
    again = rebuild_trunk(trunk.specs, weights="random", device=CPU)
    assert np.array_equal(again.forward(images)[0], trunk.forward(images)[0])
    assert again.spec == trunk.spec


@pytest.mark.parametrize(
    ("backbone", "bf16", "options", "expected"),
    [
        ("resnet18", False, {}, (ONNXRUNTIME, "fp32")),
        ("resnet18", True, {}, (TORCH, "bf16")),
        ("efficientnet_lite0", True, {}, (ONNXRUNTIME, "fp32")),
        ("resnet18", True, {"precision": "fp32"}, (ONNXRUNTIME, "fp32")),
        ("resnet18", True, {"precision": "bf16"}, (TORCH, "bf16")),
        ("resnet18", False, {"compiled": True}, (TORCH, "fp32")),
        ("efficientnet_lite0", True, {"engine": TORCH}, (TORCH, "bf16")),
    ],
)
def test_what_auto_means(
    backbone: str, bf16: bool, options: dict[str, Any], expected: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("engine", "devices"):
        path = f"features.{'trunk.' if module == 'engine' else ''}{module}.has_cpu_bf16"
        monkeypatch.setattr(path, lambda: bf16)
    depthwise = nn.Conv2d(8, 8, 3, groups=8 if backbone == "efficientnet_lite0" else 1)
    assert choose_engine(TrunkOptions(backbone=backbone, **options), depthwise, CPU) == expected


@pytest.mark.parametrize("options", [{"precision": "bf16"}, {"compiled": True}])
def test_what_it_cannot_do(options: dict[str, Any]) -> None:
    with pytest.raises(TrunkError, match=r"`engine=onnxruntime` computes in fp32 on the CPU, not compiled, but"):
        build("resnet18", engine=ONNXRUNTIME, **options)


def test_an_engine_that_there_is_not() -> None:
    with pytest.raises(TrunkError, match=r"unknown `engine=tensorrt`: expected one of auto, torch, onnxruntime"):
        build("resnet18", engine="tensorrt")


def test_an_export_that_is_wrong_leaves_torch_to_compute(
    images: torch.Tensor, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    whole = engine.exported
    other = build("resnet18", engine=TORCH, weights="random").module

    def broken(module: nn.Module, images: torch.Tensor, values: Any) -> bytes:
        with torch.no_grad():
            other.get_parameter("conv1.weight").mul_(1.5)
        return whole(other, images, values)

    monkeypatch.setattr(engine, "exported", broken)
    with caplog.at_level(logging.WARNING):
        trunk = build("resnet18", engine=ONNXRUNTIME)
    assert trunk.spec.engine == TORCH
    assert len(caplog.messages) == 1
    assert "of the largest feature: torch computes this network" in caplog.text
    assert np.array_equal(trunk.forward(images)[0], build("resnet18", engine=TORCH).forward(images)[0])


def test_a_network_that_cannot_be_exported(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    def refuse(*_: object) -> bytes:
        raise RuntimeError("no such operator")

    monkeypatch.setattr(engine, "exported", refuse)
    assert build("resnet18", engine=ONNXRUNTIME).spec.engine == TORCH
    assert caplog.messages == ["ONNX Runtime cannot take this network (no such operator): torch computes it"]


def test_frozen_trunk_takes_an_engine() -> None:
    trunk = FrozenTrunk("resnet18", weights="random", image_size=64, precision="fp32", engine=ONNXRUNTIME).fit([])
    assert trunk.specs_[0].engine.startswith(ONNXRUNTIME)
    assert replace(trunk.specs_[0], engine=TORCH) == build("resnet18", engine=TORCH).spec


class PadsAsItsImagesNeed(nn.Module):
    """As EfficientNets pad: by a size that is computed from the map's."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 4, 3, stride=2)

    def forward(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        height, width = images.shape[-2:]
        return {"layer": self.layer(nn.functional.pad(images, (0, width % 3, 0, height % 3)))}


def test_sizes_of_maps_are_numbers_in_an_exported_network() -> None:
    module = PadsAsItsImagesNeed().eval()
    assert b'"\x05Shape' not in engine.exported(
        module, torch.rand(2, 3, 16, 16), {"images": ["n"], "layer": ["n"]}
    )  # an operator's name
    forward = onnx_forward(module, ["layer"], 16)
    assert forward is not None
    assert forward(torch.rand(5, 3, 16, 16))["layer"].shape == (5, 4, 8, 8)


def test_a_network_that_fixes_the_number_of_images_is_left_to_torch(caplog: pytest.LogCaptureFixture) -> None:
    class Fixes(nn.Module):
        def forward(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
            return {"flat": images.reshape(int(images.shape[0]), -1)}

    assert onnx_forward(Fixes(), ["flat"], 8) is None
    assert "torch computes" in caplog.text
