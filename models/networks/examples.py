"""What a network is trained on: images, another view of each in every epoch, or what a frozen trunk made of them.

A trunk that stays as it is and sees every image as it is gives the same features in every epoch. They are computed
once, into a feature table, and the head alone is trained on its rows.
"""

from __future__ import annotations

from typing import Protocol, get_args

import numpy as np
import torch
from numpy.typing import NDArray

from features.sources.source import LearningSplit
from features.squares import Squares
from features.table.joined import JoinedTable
from features.trunk.recipe import normalise, to_square
from models.columns.learnable import check_learnable
from models.columns.workspace import Workspace
from models.networks.schedules import size_at
from models.networks.settings import Views
from models.networks.views import random_views


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
