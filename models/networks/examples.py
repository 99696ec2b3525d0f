"""What a network is trained on: images, another view of each in every epoch, or what a frozen trunk made of them.

A trunk that stays as it is and sees every image as it is gives the same features in every epoch. They are computed
once, into a feature table, and the head alone is trained on its rows.
"""

from __future__ import annotations

import math
from typing import Protocol, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import affine_grid, grid_sample

from features.sources.source import LearningSplit
from features.squares import Squares
from features.table.joined import JoinedTable
from features.trunk.recipe import normalise, to_square
from models.columns.workspace import Workspace, check_learnable
from models.networks.schedules import size_at
from models.networks.settings import Views


class Examples(Protocol):
    """What a Trainer learns from: the n examples of a split have the numbers 0 to n − 1."""

    kind: str
    """What they are, in words."""

    def labels(self, split: LearningSplit) -> torch.Tensor:
        """The labels of a split, (n,) int64."""

    def read(self, split: LearningSplit, numbers: NDArray[np.intp]) -> torch.Tensor:
        """Some examples of a split as they are kept, (m, …)."""

    def seen(self, kept: torch.Tensor, share: float, generator: torch.Generator) -> torch.Tensor:
        """What training sees of examples at a share of the schedule, 0 to 1: what the network takes, float32."""

    def whole(self, kept: torch.Tensor) -> torch.Tensor:
        """What prediction would see of examples: what the network takes, float32."""


class ImageExamples(Examples):
    """Random views of images, (m, 3, s, s) normalised; s grows from `first_size` on, where one is given."""

    def __init__(self, squares: Squares, views: Views, first_size: int | None = None) -> None:
        self.recipe = squares.recipe
        self.kind = f"images of {self.recipe.image_size} px"
        self._squares = squares
        self._views = views
        self._first_size = first_size
        self._places = {split: squares.places(split) for split in get_args(LearningSplit)}

    def labels(self, split: LearningSplit) -> torch.Tensor:
        return self._squares.labels(self._places[split])

    def read(self, split: LearningSplit, numbers: NDArray[np.intp]) -> torch.Tensor:
        return self._squares.read(self._places[split][numbers])

    def seen(self, kept: torch.Tensor, share: float, generator: torch.Generator) -> torch.Tensor:
        recipe = self.recipe
        size = size_at(share, self._first_size, recipe.image_size)
        if size < recipe.image_size:
            resize = recipe.at(size).resize
            kept = to_square(kept, resize=resize, size=resize, interpolation=recipe.interpolation)
        elif self._views.whole:
            return self.whole(kept)
        return normalise(random_views(kept, size, self._views, generator), recipe.mean, recipe.std)

    def whole(self, kept: torch.Tensor) -> torch.Tensor:
        recipe = self.recipe
        images = to_square(kept, resize=recipe.resize, size=recipe.image_size, interpolation=recipe.interpolation)
        return normalise(images, recipe.mean, recipe.std)


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


class FeatureExamples(Examples):
    """The rows of a feature table, (m, d), put aside in `workspace`, where they can be read in any order."""

    def __init__(self, table: JoinedTable, workspace: Workspace) -> None:
        check_learnable(table)
        columns = np.arange(table.dim)
        self._rows = {split: workspace.store(table, split, columns) for split in get_args(LearningSplit)}
        self.kind = f"rows of {table.dim:,} features"

    def labels(self, split: LearningSplit) -> torch.Tensor:
        return torch.from_numpy(self._rows[split].labels).long()

    def read(self, split: LearningSplit, numbers: NDArray[np.intp]) -> torch.Tensor:
        return self._rows[split].rows(numbers)

    def seen(self, kept: torch.Tensor, share: float, generator: torch.Generator) -> torch.Tensor:
        """Every row as it is."""
        return self.whole(kept)

    def whole(self, kept: torch.Tensor) -> torch.Tensor:
        return kept.float()
