"""A trained network whose features another of the same architecture learns to predict, besides its labels.

Method: Romero et al., FitNets (2015), at the last node, with the teacher's features normalised as in Wei et al.,
Feature distillation (2022), so that faint images count as loud ones do; the teacher sees the very crop that the pupil
sees, as in Beyer et al., Knowledge distillation: a good teacher is patient and consistent (2022).
"""

from __future__ import annotations

import torch
from torch.nn.functional import layer_norm, mse_loss

from features.trunk.trunk import Trunk

WEIGHT = 3.0
"""How much the distance counts, where the loss on labels counts 1."""


@torch.no_grad()
def taught_features(teacher: Trunk, images: torch.Tensor) -> torch.Tensor:
    """Features (n, c) or (n, c, …) of images (n, 3, s, s), normalised as the pupil takes them.

    The teacher is a frozen trunk whose one node is the one that the pupil's ends at.
    """
    features: torch.Tensor = teacher.module(images)[teacher.spec.node]
    return features


def distance(predicted: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
    """Mean squared error of what was predicted, (n, …, c), from a teacher's features, (n, c) or (n, c, …).

    The features are normalised over the channels of each place, so that zeros predicted everywhere are 1 away.
    """
    wanted = features.movedim(1, -1).float()
    return mse_loss(predicted.float(), layer_norm(wanted, wanted.shape[-1:]))
