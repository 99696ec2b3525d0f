from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from features.trunk.recipe import to_square
from models.networks.examples import random_views
from models.networks.settings import WHOLE, Views


def views(images: torch.Tensor, size: int, *, seed: int = 0, **how: float) -> torch.Tensor:
    return random_views(images, size, Views(**how), torch.Generator().manual_seed(seed))


def ramps(count: int, size: int) -> torch.Tensor:
    """Squares whose red grows from left to right, and whose green from top to bottom, by one value a pixel."""
    across = torch.arange(size, dtype=torch.uint8).expand(size, size)
    return torch.stack([across, across.T, torch.zeros_like(across)]).expand(count, 3, size, size)


def test_whole_images_are_only_mirrored() -> None:
    images = torch.randint(0, 256, (64, 3, 12, 12), generator=torch.Generator().manual_seed(1)).to(torch.uint8)
    found = views(images, 12, min_area=1.0, max_stretch=0.0)
    as_they_were = torch.isclose(found, images.float(), atol=1e-2).flatten(1).all(1)
    hflip = torch.isclose(found, images.flip(3).float(), atol=1e-2).flatten(1).all(1)
    assert bool((as_they_were ^ hflip).all())
    assert 16 < int(hflip.sum()) < 48


def test_crops_have_the_area_and_the_sides_asked_for() -> None:
    found = views(ramps(500, 101), 41)
    width = (found[:, 0, 20, -1] - found[:, 0, 20, 0]).abs() / 40 * 41 / 101
    height = (found[:, 1, -1, 20] - found[:, 1, 0, 20]) / 40 * 41 / 101
    area, ratio = width * height, width / height
    assert float(area.min()) == pytest.approx(0.45, abs=0.02)
    assert float(area.max()) == pytest.approx(1.0, abs=0.05)
    assert 1 / 1.21 < float(ratio.min()) < 0.9
    assert 1.1 < float(ratio.max()) < 1.21
    assert float(found[:, :2].max()) <= 100


def test_upright_images_stay_upright() -> None:
    found = views(ramps(100, 20), 20)
    assert bool((found[:, 1, -1] > found[:, 1, 0]).all())


def test_what_is_drawn_follows_from_the_seed_alone() -> None:
    images = ramps(8, 20)
    torch.manual_seed(1)
    first = views(images, 16)
    torch.manual_seed(2)
    assert torch.equal(views(images, 16), first)
    assert not torch.equal(views(images, 16, seed=1), first)


def test_size_and_type() -> None:
    found = views(ramps(2, 20), 32)
    assert found.shape == (2, 3, 32, 32)
    assert found.dtype == torch.float32


def test_turned_images() -> None:
    images = ramps(400, 41)
    found = random_views(images, 41, replace(WHOLE, max_degrees=30), torch.Generator().manual_seed(0))
    degrees = torch.rad2deg(
        torch.atan2(found[:, 1, 20, 25] - found[:, 1, 20, 15], found[:, 0, 20, 25] - found[:, 0, 20, 15])
    )
    assert float(degrees.abs().max()) == pytest.approx(30, abs=1)
    assert float(degrees.mean()) == pytest.approx(0, abs=2)


@pytest.mark.parametrize(("side", "size"), [(12, 12), (18, 16), (256, 224)])
def test_whole_views_are_what_prediction_sees(side: int, size: int) -> None:
    images = torch.randint(0, 256, (4, 3, side, side), generator=torch.Generator().manual_seed(1)).to(torch.uint8)
    found = random_views(images, size, WHOLE, torch.Generator().manual_seed(0))
    expected = to_square(images, resize=side, size=size, interpolation="bilinear")
    assert found.numpy() == pytest.approx(expected.float().numpy(), abs=0.1)
