"""What a search for settings has tried and found; light to import, as reports are made from it."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import Literal

from models.heads.settings import Settings


@dataclass(frozen=True, kw_only=True)
class Tried:
    """One trial: its place in the search, and its validation log-loss, None where it went beyond all numbers.

    That of a pruned trial is from where it was given up.
    """

    number: int
    loss: float | None
    state: Literal["complete", "pruned"]


@dataclass(frozen=True, kw_only=True)
class Search:
    """What a search found: the best `settings`, the trials in order, the `seconds` that all of them took together.

    `reused` where no trial was left to do.
    """

    settings: Settings
    tried: tuple[Tried, ...]
    seconds: float
    reused: bool

    @property
    def given_loss(self) -> float:
        """Validation log-loss of the settings that were given."""
        return _number(self.tried[0].loss)

    @property
    def best_loss(self) -> float:
        """Validation log-loss of `settings`: the lowest of the trials that went to their end."""
        return min(_number(trial.loss) for trial in self.tried if trial.state == "complete")

    @property
    def pruned(self) -> int:
        """How many trials were given up."""
        return sum(trial.state == "pruned" for trial in self.tried)


def _number(loss: float | None) -> float:
    """A loss that can be compared: one beyond all numbers is the largest."""
    return inf if loss is None else loss
