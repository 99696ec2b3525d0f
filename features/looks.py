"""What an image looks like, as its pixels tell on their way to a trunk: a few numbers, and a small grey picture.

The numbers are of the square that the trunk sees, of which every second pixel is looked at: they tell what the trunk
can see, which is not how sharp a large photograph is. The picture is of the whole image.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torchvision.transforms import v2

LOOKS = ("brightness", "contrast", "sharpness", "red", "green", "blue")
"""What `look` tells, in order."""

FINE = 112
"""Pixels of a side from which on every second one is looked at."""

FLAT = 1e-3
"""Below this contrast all is one grey: what is left are the last digits of sums."""

LUMA = (0.299, 0.587, 0.114)
"""What red, green and blue weigh in grey (ITU-R BT.601)."""

SIDE = 24
"""Pixels of a thumbnail's sides, whatever the image's: a margin cut off is a shift and a scale of each axis."""

OVERSAMPLED = 8
"""Of a larger image so many pixels a side are looked at for each one of the thumbnail: the rest would tell no more."""


def look(images: torch.Tensor) -> NDArray[np.float32]:
    """How (n, 1 or 3, h, w) uint8 images look, (n, 6) float32, see LOOKS.

    Brightness is the mean of the grey image and contrast its standard deviation, both as shares of the range (0 to 1);
    sharpness is the standard deviation of its Laplacian by that of the image (after Pech-Pacheco et al. 2000, Diatom
    autofocusing in brightfield microscopy), 0 where all is one grey; then the mean of each colour.

    >>> edge = torch.zeros(1, 1, 64, 64, dtype=torch.uint8)
    >>> edge[..., 32:] = 255
    >>> {name: round(value, 2) for name, value in zip(LOOKS, look(edge)[0].tolist())}
    {'brightness': 0.5, 'contrast': 0.5, 'sharpness': 0.36, 'red': 0.5, 'green': 0.5, 'blue': 0.5}
    """
    step = 1 + (min(images.shape[-2:]) > FINE)
    colours = images[:, :, ::step, ::step].permute(0, 2, 3, 1).contiguous().float() / 255
    grey = colours @ torch.tensor(LUMA, device=images.device) if colours.shape[-1] == 3 else colours[..., 0]
    sides = grey[:, :-2, 1:-1] + grey[:, 2:, 1:-1] + grey[:, 1:-1, :-2] + grey[:, 1:-1, 2:]
    contrast, edges = _deviation(grey), _deviation(sides - 4 * grey[:, 1:-1, 1:-1])
    sharpness = torch.where(contrast > FLAT, edges / contrast, 0)
    means = colours.mean(dim=(1, 2)).expand(-1, 3)
    told = torch.column_stack([grey.mean(dim=(1, 2)), contrast, sharpness, means])
    found: NDArray[np.float32] = told.cpu().numpy()
    return found


def thumbnail(pixels: torch.Tensor) -> NDArray[np.uint8]:
    """A small picture by which near-doubles are told: (1 or 3, h, w) uint8 to (SIDE, SIDE) grey, nothing cut off.

    >>> thumbnail(torch.full((3, 40, 30), 7, dtype=torch.uint8)).shape
    (24, 24)
    """
    step = max(1, min(pixels.shape[-2:]) // (OVERSAMPLED * SIDE))
    small = v2.functional.resize(pixels[:, ::step, ::step], [SIDE, SIDE], antialias=True)
    grey: NDArray[np.uint8] = small.float().mean(0).round().byte().cpu().numpy()
    return grey


def _deviation(values: torch.Tensor) -> torch.Tensor:
    """The standard deviation of each of (n, h, w), 0 of nothing: several times as fast as `std`."""
    rows = values.flatten(1)
    count = max(rows.shape[1], 1)
    return (rows.square().sum(dim=1) / count - (rows.sum(dim=1) / count).square()).clamp(min=0).sqrt()
