"""Which contender to ship, by a rule that the report tells."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from models.networks.settings import NETWORK

if TYPE_CHECKING:  # a result has a recommendation
    from pipeline.report.result import ContenderResult

CHEAP, DEAR = 0.1, 1.1
"""A cost below so many times another is far lower, one above so many times it is higher."""


@dataclass(frozen=True, kw_only=True)
class Recommendation:
    """The contender to ship, and why, in a sentence each."""

    name: str
    reasons: tuple[str, ...]


def recommend(
    heads: Mapping[str, ContenderResult],
    behind: Collection[str],
    behind_by_log_loss: Collection[str],
    features_us: float | None,
) -> Recommendation:
    """The contender to ship, by test images, and what it costs; features take `features_us` microseconds an image.

    1. Those are out that another is better than, as the images tell, in accuracy (`behind`) or in log-loss
       (`behind_by_log_loss`). Where that leaves nobody, log-loss alone counts.
    2. Of the others the one with the lowest log-loss is best.
    3. It is shipped, unless another of them costs less than a tenth of it in one way, and at most a tenth more in
       every other: in microseconds from an image to its class, bytes of the file, or seconds to fit, the search for
       settings among them. Of several such, the one with the lowest log-loss is. What is not known does not count.
    """
    left = [name for name in heads if name not in behind and name not in behind_by_log_loss]
    left = left or [name for name in heads if name not in behind_by_log_loss]
    left.sort(key=lambda name: heads[name].log_loss)
    best, costs = left[0], {name: _costs(name, heads[name], features_us) for name in left}
    name = next((each for each in left if _cheaper(costs[each], costs[best])), best)
    reasons = [f"{best} has the lowest log-loss, {heads[best].log_loss:.3f}, of those that are not ruled out."]
    if name != best:
        low, high = next((low, high) for low, high in _pairs(costs[name], costs[best]) if _far_lower(low, high))
        reasons.append(
            f"{name}, {heads[name].log_loss:.3f}, cannot be told from it and costs far less: "
            f"{low.said}, not {high.said}."
        )
    if out := [f"{each} by {_by(each, behind, behind_by_log_loss)}" for each in heads if each not in left]:
        reasons.append(f"Ruled out: {', '.join(out)}.")
    reasons.append(f"It takes {', '.join(each.said for each in costs[name])}.")
    if heads[name].worse_than_guess:
        reasons.append("On unseen images it is no better than a guess by the classes' frequencies.")
    return Recommendation(name=name, reasons=tuple(reasons))


@dataclass(frozen=True)
class _Cost:
    kind: str
    amount: float
    said: str


def _costs(name: str, head: ContenderResult, features_us: float | None) -> list[_Cost]:
    """What is known of its costs. A retrained network has its own features in its microseconds."""
    us, seconds = head.predict_us_per_image, head.fit_seconds + head.tune_seconds
    if us is not None and name != NETWORK:
        us = None if features_us is None else us + features_us
    image = [] if us is None else [_Cost("image", us, f"{us:,.0f} µs an image")]
    size = f"{head.bytes / 1e6:,.1f} MB" if head.bytes >= 1e6 else f"{head.bytes / 1e3:,.0f} kB"
    file = _Cost("file", head.bytes, size)
    return [*image, file, _Cost("fit", seconds, f"{seconds:,.1f} s to fit")]


def _pairs(costs: Collection[_Cost], others: Collection[_Cost]) -> list[tuple[_Cost, _Cost]]:
    return [(one, other) for one in costs for other in others if one.kind == other.kind]


def _far_lower(cost: _Cost, other: _Cost) -> bool:
    return cost.amount < CHEAP * other.amount


def _cheaper(costs: Collection[_Cost], others: Collection[_Cost]) -> bool:
    pairs = _pairs(costs, others)
    return any(_far_lower(*pair) for pair in pairs) and all(one.amount <= DEAR * other.amount for one, other in pairs)


def _by(name: str, behind: Collection[str], behind_by_log_loss: Collection[str]) -> str:
    ways = {"accuracy": behind, "log-loss": behind_by_log_loss}
    return " and ".join(way for way, names in ways.items() if name in names)
