from __future__ import annotations

import pytest
import torch

from features.trunks import Trunk, freeze
from models.network import Network, add_norms, decayed
from models.teacher import Teacher, distance
from tests.conftest import CPU, TinyBackbone, make_tiny_trunk, tiny_spec


def test_the_distance_is_the_share_of_each_channel_that_is_missing() -> None:
    wanted = torch.rand(5, 3, 2, 2, generator=torch.Generator().manual_seed(0)) + 0.5
    assert float(distance([wanted], [wanted])) == 0
    assert float(distance([torch.zeros_like(wanted)], [wanted])) == pytest.approx(1)
    assert float(distance([wanted * torch.tensor([1.0, 1.0, 0.0])[:, None, None]], [wanted])) == pytest.approx(1 / 3)
    loud = torch.tensor([1.0, 1000.0, 0.1])[:, None, None]
    assert float(distance([wanted, torch.zeros_like(wanted)], [wanted, wanted])) == pytest.approx(0.5)
    assert float(distance([0.5 * loud * wanted], [loud * wanted])) == pytest.approx(0.25)


def test_a_channel_that_never_answers_does_not_count() -> None:
    wanted = torch.ones(4, 2)
    wanted[:, 1] = 0
    assert float(distance([wanted + 1e-4], [wanted])) < 1e-3


def test_a_teacher_sees_what_its_trunk_sees() -> None:
    trunk = make_tiny_trunk("pool", "early")
    images = torch.randint(0, 256, (4, 3, 16, 16), dtype=torch.uint8)
    given = images.float()
    for expected, found in zip(trunk.forward(images), Teacher(trunk).features(given), strict=True):
        assert found.flatten(1).numpy() == pytest.approx(expected, abs=2e-3)
        assert not found.requires_grad
    assert torch.equal(given, images.float()), "the pupil gets the same images afterwards"


def test_a_pupil_comes_nearer_to_its_teacher() -> None:
    other = TinyBackbone(0)
    spec = [tiny_spec(node) for node in other.depths]
    teacher, backbone = Teacher(Trunk(spec, freeze(other.cut(other.depths)), CPU)), TinyBackbone(1)
    add_norms(backbone.network, 0)
    network = Network(backbone, 3, image_size=16, seed=0, depths=True).train()
    optimizer = torch.optim.SGD(decayed(network, 0.0), lr=0.05, momentum=0.9)
    images = 255 * torch.rand(16, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    wanted = teacher.features(images)
    distances = []
    for _ in range(30):
        loss = distance(network.features(images / 255), wanted)
        distances.append(float(loss.detach()))
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
    assert distances[-1] < 0.5 * distances[0]
