"""A small grey picture of a whole image, by which near-doubles are told."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torchvision.transforms import v2

SIDE = 24
"""Pixels of each side, whatever the image's: a margin cut off is a shift and a scale of each axis."""

OVERSAMPLED = 8
"""Of a larger image so many pixels a side are looked at for each one of the thumbnail: the rest would tell no more."""


def thumbnail(pixels: torch.Tensor) -> NDArray[np.uint8]:
    """(1 or 3, h, w) uint8 to (SIDE, SIDE) uint8 grey, nothing of it cut off.

    >>> thumbnail(torch.full((3, 40, 30), 7, dtype=torch.uint8)).shape
    (24, 24)
    """
    step = max(1, min(pixels.shape[-2:]) // (OVERSAMPLED * SIDE))
    small = v2.functional.resize(pixels[:, ::step, ::step], [SIDE, SIDE], antialias=True)
    grey: NDArray[np.uint8] = small.float().mean(0).round().byte().cpu().numpy()
    return grey
