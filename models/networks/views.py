"""What training sees of an image: another part of it each time, stretched, turned and mirrored, a batch in one step."""

from __future__ import annotations

import math

import torch
from torch.nn.functional import affine_grid, grid_sample

from models.networks.settings import Views


def random_views(images: torch.Tensor, size: int, views: Views, generator: torch.Generator) -> torch.Tensor:
    """Random crops of squares, resized, turned and mirrored; where all of an image is to be seen, its centre as it is.

    (n, 3, s, s) uint8 to (n, 3, size, size) float32, 0 to 255. A crop is resized without antialiasing, so `size` should
    not be far below s. What is drawn comes from `generator`, on the CPU: the same for every device.
    """
    count, side = len(images), images.shape[-1]
    most = size / side if views.min_area == 1 else 1.0  # prediction crops the centre
    draws = torch.rand(6, count, generator=generator)
    area = views.min_area + (1 - views.min_area) * draws[0]
    stretch = torch.exp((2 * draws[1] - 1) * math.log1p(views.max_stretch))
    width, height = (most * (area * stretch).sqrt().clamp(max=1), most * (area / stretch).sqrt().clamp(max=1))
    left, top = (2 * draws[2] - 1) * (most - width), (2 * draws[3] - 1) * (most - height)
    mirror = torch.where(draws[4] < views.hflip, -1.0, 1.0)
    angle = (2 * draws[5] - 1) * math.radians(views.max_degrees)
    theta = torch.zeros(count, 2, 3)  # from places in the crop to places in the image, both from -1 to 1
    theta[:, 0, 0], theta[:, 0, 1], theta[:, 0, 2] = angle.cos() * width * mirror, -angle.sin() * height, left
    theta[:, 1, 0], theta[:, 1, 1], theta[:, 1, 2] = angle.sin() * width * mirror, angle.cos() * height, top
    grid = affine_grid(theta.to(images.device), [count, 3, size, size], align_corners=False)
    return grid_sample(images.float(), grid, padding_mode="border", align_corners=False)
