"""Pixels to what a trunk takes. The settings belong to the trunk's weights, never to the caller."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torchvision.transforms import v2

MAX_ASPECT = 4
"""Longer sides are cropped to this multiple of the shorter before resizing: the centre crop drops the rest anyway."""


def to_square(pixels: NDArray[np.uint8], *, resize: int, size: int, interpolation: str) -> torch.Tensor:
    """Resize the shorter side to `resize` px (antialiased), crop the centre: (h, w, 3) to (3, size, size), uint8."""
    image = torch.from_numpy(pixels.transpose(2, 0, 1).copy())
    shorter = min(image.shape[1:])
    if max(image.shape[1:]) > MAX_ASPECT * shorter:
        image = v2.functional.center_crop(image, [min(side, MAX_ASPECT * shorter) for side in image.shape[1:]])
    image = v2.functional.resize(image, [resize], interpolation=v2.InterpolationMode(interpolation), antialias=True)
    return v2.functional.center_crop(image, [size, size])


def normalise(images: torch.Tensor, mean: Sequence[float], std: Sequence[float]) -> torch.Tensor:
    """(n, 3, s, s) uint8 to float32, scaled to 0..1, less `mean`, over `std`, on the images' own device."""
    return v2.functional.normalize(v2.functional.to_dtype(images, torch.float32, scale=True), list(mean), list(std))
