"""The ways of retraining a network that the transfer-learning literature knows: what is trained, and how fast.

Source of lp-ft: Kumar et al., Fine-Tuning can Distort Pretrained Features (2022): the first gradients from a new head
undo some of what the network knows; those from a head that has been fitted do not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from models.errors import SettingsError
from models.networks.settings import FREEZE, TrainingSettings

HEAD_FIRST = 0.3
"""Share of the schedule in which two-phase trains the head alone."""

LOWER_RATE = 0.1
"""The rest of two-phase learns at this share of the rate."""


@dataclass(frozen=True, kw_only=True)
class Phase:
    """A part of the training, which leaves `frozen` children alone: from where to where in the whole, as shares of it.

    `rate` is its share of the learning rate.
    """

    name: str
    frozen: tuple[str, ...]
    start: float = 0.0
    end: float = 1.0
    rate: float = 1.0

    def settings(self, settings: TrainingSettings) -> TrainingSettings:
        """This phase's part of the whole training's settings."""
        return replace(
            settings,
            epochs=max(1, round(self.end * settings.epochs) - round(self.start * settings.epochs)),
            minutes=settings.minutes and (self.end - self.start) * settings.minutes,
            learning_rate=self.rate * settings.rate,
        )


def phases_of(regime: str, children: Sequence[str]) -> list[Phase]:
    """The phases of a regime for a trunk of these children; raises SettingsError for one that is not among them."""
    everything = tuple(children)
    if regime == "feature-extraction":
        return [Phase(name="head", frozen=everything)]
    if regime in ("finetune", "lp-ft", "scratch"):
        return [Phase(name="all", frozen=())]
    if regime == "two-phase":
        first = Phase(name="head", frozen=everything, end=HEAD_FIRST)
        return [first, Phase(name="all", frozen=(), start=HEAD_FIRST, rate=LOWER_RATE)]
    count = regime.removeprefix(FREEZE)
    if not count.isdecimal() or not 1 <= int(count) <= len(everything):
        numbered = ", ".join(f"{number} {name}" for number, name in enumerate(everything, 1))
        raise SettingsError(f"`regime={regime}` names no child of the network: expected freeze:K with K of {numbered}")
    return [Phase(name=f"after {everything[int(count) - 1]}", frozen=everything[: int(count)])]
