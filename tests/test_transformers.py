"""Class tokens of transformers at any block, held against the networks' own, with random weights and small images."""

from __future__ import annotations

import re

import pytest
import timm
import torch
from torch import nn

from features.errors import TrunkError
from features.trunk.backbone import Backbone, State
from features.trunk.engine import onnx_forward
from features.trunk.loaded import freeze, open_backbone
from features.trunk.pooling import read_tokens
from tests.test_backbones import build

LAYER = "encoder.layers.encoder_layer_{}"

PREFIXED = [
    ("vit_tiny_patch16_224", 64, 1),
    ("deit_tiny_distilled_patch16_224", 64, 2),
    ("vit_small_patch14_reg4_dinov2", 56, 5),
    ("vit_small_patch16_dinov3", 64, 5),
    ("eva02_tiny_patch14_224", 224, 1),
    ("test_vit", 160, 1),
]
"""Models of timm, a size of images, and how many tokens come before those of the patches."""


def images(size: int, count: int = 2) -> torch.Tensor:
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(0))


@torch.inference_mode()
def outputs(backbone: Backbone, nodes: tuple[str, ...], size: int) -> State:
    found: State = freeze(backbone.cut(nodes))(images(size))
    return found


@torch.inference_mode()
def given_by(layer: nn.Module, network: nn.Module, size: int) -> torch.Tensor:
    """What `layer` gives when `network` sees the images."""
    given: list[torch.Tensor] = []
    with layer.register_forward_hook(lambda *call: given.append(call[2])):
        network.eval()(images(size))
    return given[0]


@pytest.fixture(scope="module")
def torchvisions() -> Backbone:
    return open_backbone("vit_b_32", 0)


@pytest.mark.parametrize(("name", "size", "prefix"), PREFIXED)
def test_the_last_blocks_tokens_are_those_that_timm_ends_with(name: str, size: int, prefix: int) -> None:
    backbone = open_backbone(f"timm:{name}", 0)
    last = backbone.depths[-2].removesuffix(".cls_mean")
    found = outputs(backbone, (f"{last}.cls", f"{last}.cls_mean"), size)
    with torch.inference_mode():
        tokens = backbone.network.forward_features(images(size))  # type: ignore[operator]
    assert torch.equal(found[f"{last}.cls"], tokens[:, 0])
    dinov2 = torch.cat([tokens[:, 0], tokens[:, prefix:].mean(dim=1)], dim=1)
    assert torch.allclose(found[f"{last}.cls_mean"], dinov2, atol=1e-6)


def test_tokens_of_earlier_blocks_are_normed_as_the_last_ones() -> None:
    backbone = open_backbone("timm:vit_small_patch14_reg4_dinov2", 0)
    network = backbone.network
    with torch.inference_mode():
        tokens = network.norm(given_by(network.blocks[4], network, 56))  # type: ignore[operator,index,arg-type]
    found = outputs(backbone, ("stage5.cls_mean", "stage5.cls", "stage5"), 56)
    assert torch.allclose(found["stage5.cls"], tokens[:, 0], atol=1e-6)
    assert torch.allclose(found["stage5.cls_mean"][:, 384:], tokens[:, 5:].mean(dim=1), atol=1e-6)
    assert found["stage5"].shape == (2, 384, 4, 4)


def test_depths_of_a_transformer_are_narrow_and_a_quarter_of_it_apart() -> None:
    trunk = build("timm:vit_tiny_patch16_224", node="depths", image_size=64)
    stages = [f"stage{number}.cls_mean" for number in (3, 6, 9, 12)]
    assert [spec.node for spec in trunk.specs] == [*stages, "pre_logits"]
    assert trunk.dims == (384, 384, 384, 384, 192)


@pytest.mark.parametrize("name", ["test_vit3", "vit_base_patch16_siglip_224", "resnet10t"])
def test_networks_without_a_class_token_have_no_nodes_of_it(name: str) -> None:
    backbone = open_backbone(f"timm:{name}", 0)
    assert not any("cls" in node for node in backbone.depths)
    with pytest.raises(TrunkError, match=r"unknown node 'stage2.cls' of timm:\w+: expected one of stage1, [^.]*$"):
        backbone.cut(["stage2.cls"])


def test_an_unknown_node_of_a_transformer_lists_what_there_is() -> None:
    expected = "expected one of stage1, stage2, stage3, stage4, stage5, stage6, stageN.cls, stageN.cls_mean, pre_logits"
    for node in ("stage7.cls", "stage2.mean", "pre_logits.cls"):
        with pytest.raises(TrunkError, match=rf"^unknown node '{re.escape(node)}' of timm:test_vit: {expected}$"):
            open_backbone("timm:test_vit", 0).cut([node])


def test_onnx_runtime_gives_the_nodes_in_the_order_they_were_asked_for() -> None:
    nodes = ("pre_logits", "stage2.cls_mean", "stage6.cls", "stage1")
    module = freeze(open_backbone("timm:test_vit", 0).cut(nodes))
    forward = onnx_forward(module, nodes, 160)
    assert forward
    found = forward(images(160))
    assert [tuple(found[node].shape[1:]) for node in nodes] == [(64,), (128,), (64,), (64, 10, 10)]
    assert torch.allclose(found["stage6.cls"], module(images(160))["stage6.cls"], atol=1e-4)


def test_transformers_take_other_images_than_their_own() -> None:
    backbone = open_backbone("timm:vit_tiny_patch16_224", 0)
    assert outputs(backbone, ("stage12",), 96)["stage12"].shape == (2, 192, 6, 6)
    with pytest.raises(TrunkError, match=r"timm:vit_tiny_patch16_224 cannot take images of 100 px .*: give another"):
        backbone.outputs_of_blank(backbone.cut(["pre_logits"]), 100)


def test_their_own_images_are_to_transformers_what_they_were() -> None:
    backbone = open_backbone("timm:vit_tiny_patch16_224", 0)
    plain = timm.create_model("vit_tiny_patch16_224", num_classes=0).eval()
    plain.load_state_dict(backbone.network.state_dict())
    with torch.inference_mode():
        assert torch.equal(outputs(backbone, ("pre_logits",), 224)["pre_logits"], plain(images(224)))


def test_what_onnx_has_no_name_for_is_said_in_one_line(
    capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    module = freeze(open_backbone("timm:vit_tiny_patch16_224", 0).cut(["stage12.cls"]))
    assert onnx_forward(module, ["stage12.cls"], 96) is None
    assert [record.message for record in caplog.records if "ONNX Runtime cannot take this network" in record.message]
    assert capfd.readouterr().out == ""


def test_torchvisions_tokens_are_read_after_the_encoders_norm(torchvisions: Backbone) -> None:
    network: nn.Module = torchvisions.network
    norm = network.get_submodule("encoder.ln")
    with torch.inference_mode():
        tokens = norm(given_by(network.get_submodule(LAYER.format(5)), network, 224))
    nodes = ("getitem_5", *(LAYER.format(f"{number}.{kind}") for number in (5, 11) for kind in ("cls", "cls_mean")))
    found = outputs(torchvisions, nodes, 224)
    assert tuple(found) == nodes
    assert torch.allclose(found[LAYER.format("5.cls")], tokens[:, 0], atol=1e-5)
    assert torch.allclose(found[LAYER.format("5.cls_mean")][:, 768:], tokens[:, 1:].mean(dim=1), atol=1e-5)
    assert torch.equal(found[LAYER.format("11.cls")], found["getitem_5"])


def test_torchvisions_tokens_are_the_same_alone_and_in_onnx_runtime(torchvisions: Backbone) -> None:
    node = LAYER.format("2.cls")
    module = freeze(torchvisions.cut([node]))
    assert module.state_dict().keys() < torchvisions.network.state_dict().keys()
    forward = onnx_forward(module, [node], 224)
    assert forward
    together = outputs(torchvisions, (node, LAYER.format(2)), 224)
    expected = read_tokens(torchvisions.network.get_submodule("encoder.ln")(together[LAYER.format(2)]), "cls")
    for found in (forward(images(224)), outputs(torchvisions, (node,), 224), together):
        assert torch.allclose(found[node], expected, atol=1e-4)


def test_torchvisions_tokens_are_there_in_training(torchvisions: Backbone) -> None:
    node = LAYER.format("1.cls_mean")
    module = torchvisions.cut([node]).train()
    assert module(images(224))[node].shape == (2, 1536)


def test_unknown_nodes_of_torchvisions_transformers(torchvisions: Backbone) -> None:
    for node in (LAYER.format("12.cls"), LAYER.format("5.mean"), "encoder.cls"):
        with pytest.raises(TrunkError, match=rf"unknown node '{re.escape(node)}' of .*, {LAYER.format('N.cls_mean')}$"):
            torchvisions.cut([node])
