from __future__ import annotations

import pytest
import torch

from features.trunk.loaded import freeze
from features.trunk.recipe import normalise
from features.trunk.trunk import Trunk
from models.networks.network import Network, add_norms, decayed
from models.networks.teacher import distance, taught_features
from tests.conftest import CPU, TinyBackbone, make_tiny_trunk, tiny_spec


def test_the_distance_is_1_for_zeros_however_loud_the_teacher_is() -> None:
    features = torch.rand(5, 8, 2, 2, generator=torch.Generator().manual_seed(0))
    loud = features * torch.tensor([1.0, 0.1, 1000.0, 1.0, 5.0])[:, None, None, None] + 3
    wanted = torch.nn.functional.layer_norm(loud.movedim(1, -1), (8,))
    assert float(distance(wanted, loud)) == 0
    assert float(distance(torch.zeros(5, 2, 2, 8), loud)) == pytest.approx(1, abs=0.01)
    assert float(distance(0.5 * wanted, loud)) == pytest.approx(0.25, abs=0.003)


def test_features_that_are_no_maps_have_a_distance_too() -> None:
    assert float(distance(torch.zeros(3, 8), torch.arange(24.0).reshape(3, 8))) == pytest.approx(1, abs=0.01)


def test_a_teacher_sees_what_its_trunk_sees() -> None:
    trunk = make_tiny_trunk("early")
    images = torch.randint(0, 256, (4, 3, 16, 16), dtype=torch.uint8)
    normalised = normalise(images, trunk.spec.mean, trunk.spec.std)
    (expected,), found = trunk.forward(images), taught_features(trunk, normalised)
    assert found.flatten(1).numpy() == pytest.approx(expected, abs=2e-3)
    assert not found.requires_grad


def test_a_pupil_comes_nearer_to_its_teacher() -> None:
    other = TinyBackbone(0)
    trunk = Trunk([tiny_spec(other.node)], freeze(other.cut([other.node])), CPU)
    backbone = TinyBackbone(1)
    add_norms(backbone.network, 0)
    network = Network(backbone, 3, image_size=16, seed=0, taught=True).train()
    optimizer = torch.optim.SGD(decayed(network, 0.0), lr=0.05, momentum=0.9)
    images = torch.rand(16, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    wanted = taught_features(trunk, images)
    distances = []
    for _ in range(30):
        loss = distance(network.predict_teacher(network.features(images)), wanted)
        distances.append(float(loss.detach()))
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
    assert distances[-1] < 0.5 * distances[0]
