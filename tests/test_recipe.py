from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torchvision.models import AlexNet_Weights

from features.trunk.recipe import normalise, to_square


def smooth_photo(width: int, height: int) -> Image.Image:
    noise = np.random.default_rng(0).integers(0, 256, (9, 12, 3)).astype(np.uint8)
    return Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC)


def as_tensor(pixels: NDArray[np.uint8]) -> torch.Tensor:
    return torch.from_numpy(pixels).permute(2, 0, 1)


@pytest.mark.parametrize(("width", "height"), [(400, 300), (120, 300), (224, 224), (28, 28), (900, 300)])
def test_agrees_with_the_recipe_of_the_weights(width: int, height: int) -> None:
    recipe = AlexNet_Weights.IMAGENET1K_V1.transforms()
    photo = smooth_photo(width, height)
    square = to_square(as_tensor(np.array(photo)), resize=256, size=224, interpolation="bilinear")
    ours = normalise(square[None], recipe.mean, recipe.std)[0]
    # Pillow and torch round differently: at most two grey levels of 255, as the normalised scale has them.
    assert torch.abs(ours - recipe(photo)).max() <= 2 / 255 / min(recipe.std) + 1e-6


@pytest.mark.parametrize(("width", "height"), [(1, 1), (1, 5000), (5000, 1), (3, 700)])
def test_extreme_shapes_fill_the_square(width: int, height: int) -> None:
    pixels = np.full((height, width, 3), 9, np.uint8)
    square = to_square(as_tensor(pixels), resize=256, size=224, interpolation="bilinear")
    assert (square.shape, square.dtype) == ((3, 224, 224), torch.uint8)
    assert (square == 9).all()
