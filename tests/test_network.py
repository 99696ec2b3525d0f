from __future__ import annotations

import pytest
import torch

from features.trunk.backbone import Backbone
from features.trunk.loaded import open_backbone
from features.trunk.weights import load_into
from models.networks.network import Network, add_norms, decayed, exported_trunk
from tests.conftest import TinyBackbone

FLOAT16_STEPS = 2**-8
"""Of the largest feature: how far weights rounded to float16 move the features of a few layers."""


def trained_a_little(backbone: Backbone, size: int) -> Network:
    """A network with norms whose statistics and weights have moved from where they began."""
    add_norms(backbone.network, 0)
    network = Network(backbone, 3, image_size=size, seed=0).train()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.05)
    for step in range(3):
        images = torch.randn(4, 3, size, size, generator=torch.Generator().manual_seed(step))
        optimizer.zero_grad()
        torch.autograd.backward(network(images).square().mean())
        optimizer.step()
    return network.eval()


@pytest.mark.parametrize(("name", "size"), [("alexnet", 64), ("squeezenet1_1", 32), ("resnet18", 32)])
@torch.no_grad()
def test_the_exported_trunk_is_the_plain_network_with_the_same_features(name: str, size: int) -> None:
    with torch.enable_grad():
        network = trained_a_little(open_backbone(name, 0), size)
    plain = open_backbone(name, 1)
    state = exported_trunk(network.backbone)
    trunk = plain.cut([plain.node]).eval()
    load_into(trunk, state, plain, where="memory")
    images = torch.randn(4, 3, size, size, generator=torch.Generator().manual_seed(9))
    expected, found = network.features(images), trunk(images)[plain.node]
    assert found.numpy() == pytest.approx(expected.numpy(), abs=FLOAT16_STEPS * float(expected.abs().max()))
    assert {tensor.dtype for tensor in state.values() if tensor.is_floating_point()} == {torch.float16}


def test_alexnets_trunk_is_small_and_has_torchvisions_names() -> None:
    backbone = open_backbone("alexnet", 0)
    add_norms(backbone.network, 0)
    state = exported_trunk(backbone)
    layers = (0, 3, 6, 8, 10)
    assert list(state) == [f"features.{layer}.{part}" for layer in layers for part in ("weight", "bias")]
    assert sum(tensor.nbytes for tensor in state.values()) < 5_000_000


def test_exporting_leaves_the_network_as_it_is() -> None:
    network = trained_a_little(TinyBackbone(), 16).train()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    exported_trunk(network.backbone)
    assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())
    assert network.training


def test_networks_with_norms_get_no_others() -> None:
    backbone = open_backbone("resnet18", 0)
    before = list(backbone.network.state_dict())
    add_norms(backbone.network, 0)
    assert list(backbone.network.state_dict()) == before


def test_first_weights_follow_from_the_seed_alone() -> None:
    states = []
    for seed in (0, 0, 1):
        backbone = TinyBackbone()
        add_norms(backbone.network, seed)
        states.append(Network(backbone, 3, image_size=16, seed=seed).state_dict())
        torch.rand(1)
    first, again, other = states
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["head.weight"], other["head.weight"])
    assert not torch.equal(first["trunk.convolutions.0.0.weight"], other["trunk.convolutions.0.0.weight"])


@pytest.mark.parametrize(("name", "size"), [("swin_t", 32), ("vgg11", 32), ("mobilenet_v3_small", 32)])
def test_every_kind_of_node_has_a_classifier(name: str, size: int) -> None:
    network = Network(open_backbone(name, 0), 5, image_size=size, seed=0)
    assert network(torch.zeros(2, 3, size, size)).shape == (2, 5)


def test_biases_and_norms_do_not_decay_and_frozen_weights_are_left_out() -> None:
    backbone = TinyBackbone()
    add_norms(backbone.network, 0)
    network = Network(backbone, 3, image_size=16, seed=0)
    backbone.network.get_submodule("convolutions.0").requires_grad_(False)
    weights, others = decayed(network, 0.1)
    assert (weights["weight_decay"], others["weight_decay"]) == (0.1, 0.0)
    assert [tuple(p.shape) for p in weights["params"]] == [(8, 8, 3, 3), (3, 8)]
    assert [tuple(p.shape) for p in others["params"]] == [(8,), (8,), (3,)]
