"""A trained network that another of the same architecture learns from, by reproducing its features at each depth.

Method: Romero et al., FitNets (2015); the teacher sees the very crop that the pupil sees, as in Beyer et al., Knowledge
distillation: a good teacher is patient and consistent (2022).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from features.preprocess import normalise
from features.trunks import Trunk
from models.network import channels_second

LEAST_SQUARE = 1e-4
"""Of a channel's features: what never answers is not to be reproduced to the last digit."""


class Teacher:
    """A frozen trunk that ends at the depths that the pupil is looked at."""

    def __init__(self, trunk: Trunk) -> None:
        self.specs = trunk.specs
        self._trunk = trunk

    @torch.no_grad()
    def features(self, images: torch.Tensor) -> list[torch.Tensor]:
        """Its features (n, c) or (n, c, …) at each depth, of images (n, 3, s, s), 0 to 255."""
        trunk, spec = self._trunk, self.specs[-1]
        outputs = trunk.module(normalise(images, spec.mean, spec.std))
        return [channels_second(outputs[spec.node], nhwc=spec.node in trunk.nhwc) for spec in self.specs]


def distance(features: Sequence[torch.Tensor], wanted: Sequence[torch.Tensor]) -> torch.Tensor:
    """How far features are from those wanted, each (n, c) or (n, c, …): 0 where alike, 1 for nothing but zeros.

    The squared error as a share of what is wanted, of each channel, so that faint channels count as loud ones do, and
    of each depth alike.
    """
    return torch.stack([_distance(mine, its) for mine, its in zip(features, wanted, strict=True)]).mean()


def _distance(features: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    others = [axis for axis in range(wanted.ndim) if axis != 1]
    square = wanted.float().square().mean(dim=others)
    error = (features.float() - wanted.float()).square().mean(dim=others)
    return (error / square.clamp(min=LEAST_SQUARE)).mean()
