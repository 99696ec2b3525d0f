"""What training goes by as it goes on: the learning rate, and the size of what it sees."""

from __future__ import annotations

import math

from models.networks.settings import TrainingSettings

STEP_FACTOR = 0.1
"""What the learning rate is multiplied by at each step of the step schedule."""

START_RATE = 0.04
"""Share of the highest learning rate that a schedule begins with."""

SIZE_STEP = 32
"""Pixels that most networks reduce to one place of their last map."""


def learning_rate(share: float, settings: TrainingSettings) -> float:
    """The rate at a share of the schedule: half a cosine up to the highest, then down as `settings.schedule` says.

    Method of the cosine: Smith and Topin, Super-convergence (2017).
    """
    highest, warm_up = settings.rate, settings.warm_up
    if share < warm_up:
        return highest * (START_RATE + (1 - START_RATE) * (1 - math.cos(math.pi * share / warm_up)) / 2)
    if settings.schedule == "step":
        return highest * STEP_FACTOR ** min(2, math.floor(3 * share))
    return highest * (1 + math.cos(math.pi * min(1.0, (share - warm_up) / (1 - warm_up)))) / 2


def size_at(share: float, first: int | None, largest: int) -> int:
    """Pixels that training sees at a share of the schedule: as long of each size, from the first to the largest.

    Method: Howard, Training ImageNet in 3 hours (2018), and Tan and Le, EfficientNetV2 (2021).
    """
    sizes: list[int] = [*range(min(first or largest, largest), largest, SIZE_STEP), largest]
    return sizes[min(int(share * len(sizes)), len(sizes) - 1)]
