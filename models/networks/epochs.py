"""What training tells of itself: where it is after a step, and how each epoch went."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Epoch:
    """One epoch: `images` seen, `seconds` since training began, the learning rate and the losses at its end.

    `images_per_second` leaves out validation; `loss` is that of what training sees, smoothed labels and all.
    """

    epoch: int
    images: int
    seconds: float
    images_per_second: float
    learning_rate: float
    loss: float
    validation_loss: float
    validation_accuracy: float


@dataclass(frozen=True, kw_only=True)
class Pulse:
    """Where training is after a step: the epoch, its images so far, and the share of the whole schedule, 0 to 1."""

    epoch: int
    images: int
    share: float


OnPulse = Callable[[Pulse], None]
"""Called after each step."""

OnEpoch = Callable[[list[Epoch], bool], None]
"""Called after each epoch, its checkpoint written: the history, and whether this epoch is the best by now."""
