"""What training sees of an image: another part of it each time, stretched and mirrored, a whole batch in one step."""

from __future__ import annotations

import math

import torch
from torch.nn.functional import affine_grid, grid_sample


def random_views(
    images: torch.Tensor, size: int, *, least_area: float, most_stretch: float, generator: torch.Generator
) -> torch.Tensor:
    """Random crops of squares, resized, half of them mirrored.

    (n, 3, s, s) uint8 to (n, 3, size, size) float32, 0 to 255. A crop has `least_area` to all of the image's area, and
    one of its sides is longer than the other by up to `most_stretch` of it. It is resized without antialiasing, so
    `size` should not be far below s. What is drawn comes from `generator`, on the CPU: the same for every device.
    """
    count = len(images)
    draws = torch.rand(5, count, generator=generator)
    area = least_area + (1 - least_area) * draws[0]
    stretch = torch.exp((2 * draws[1] - 1) * math.log1p(most_stretch))
    width, height = ((area * stretch).sqrt().clamp(max=1), (area / stretch).sqrt().clamp(max=1))
    left, top = (2 * draws[2] - 1) * (1 - width), (2 * draws[3] - 1) * (1 - height)
    mirror = torch.where(draws[4] < 0.5, -1.0, 1.0)
    theta = torch.zeros(count, 2, 3)  # from places in the crop to places in the image, both from -1 to 1
    theta[:, 0, 0], theta[:, 0, 2] = width * mirror, left
    theta[:, 1, 1], theta[:, 1, 2] = height, top
    grid = affine_grid(theta.to(images.device), [count, 3, size, size], align_corners=False)
    return grid_sample(images.float(), grid, padding_mode="border", align_corners=False)
