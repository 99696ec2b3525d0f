"""Pixels to what a trunk takes. The settings belong to the trunk's weights, never to the caller."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torchvision.transforms import v2

MAX_ASPECT = 4
"""Longer sides are cropped to this multiple of the shorter before resizing: the centre crop drops the rest anyway."""


def to_square(images: torch.Tensor, *, resize: int, size: int, interpolation: str) -> torch.Tensor:
    """Resize the shorter side to `resize` px (antialiased), crop the centre.

    (…, 3, h, w) to (…, 3, size, size), uint8.
    """
    height, width = images.shape[-2:]
    longest = MAX_ASPECT * min(height, width)
    if max(height, width) > longest:
        images = v2.functional.center_crop(images, [min(height, longest), min(width, longest)])
    images = v2.functional.resize(images, [resize], interpolation=v2.InterpolationMode(interpolation), antialias=True)
    return v2.functional.center_crop(images, [size, size])


def normalise(images: torch.Tensor, mean: Sequence[float], std: Sequence[float]) -> torch.Tensor:
    """Scale to 0..1, less `mean`, over `std`, on the images' device: (n, 3, s, s) uint8 to channels-last float32."""
    scaled = v2.functional.to_dtype(images.contiguous(memory_format=torch.channels_last), torch.float32, scale=True)
    return v2.functional.normalize(scaled, list(mean), list(std), inplace=True)
