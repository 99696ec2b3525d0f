"""What the figures of a comparison say, in a line or two, and which contender to ship, by a rule."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from models.networks.settings import NETWORK
from pipeline.report.result import ContenderResult, Recommendation
from pipeline.report.simultaneous import Difference

CHEAP, DEAR = 0.1, 1.1
"""A cost below so many times another is far lower, one above so many times it is higher."""


def verdict(
    heads: Mapping[str, ContenderResult],
    differences: Sequence[Difference],
    log_loss_differences: Sequence[Difference],
    images: int,
) -> tuple[str, ...]:
    """Who leads, whom so many test images cannot tell from it, who is behind, and whether trees win.

    `heads` come best first.
    """
    best, result = next(iter(heads.items()))
    against = {pair.second: pair for pair in differences if pair.first == best}
    behind = ruled_out(differences)
    first = [name for name, head in heads.items() if head.accuracy == result.accuracy]
    level = [name for name in heads if name not in (*first, *behind)]
    have = "has" if len(first) == 1 else "have"
    words = [f"{' and '.join(first)} {have} the highest accuracy, {result.accuracy:.1%}"]
    if level:
        words.append(f"{images:,} images cannot tell {'it' if len(first) == 1 else 'them'} from {' or '.join(level)}")
    words += [f"{name} is behind by {_points(against[name])}" for name in behind]
    lines = [f"{'; '.join(words)}."]
    if level:
        lines.append(_power(against[level[0]], images))
    if len(heads) > 1:
        lines.append(_by_log_loss(heads, log_loss_differences))
    return (*lines, *_trees(heads, behind))


def ruled_out(differences: Sequence[Difference]) -> list[str]:
    """The contenders that another is better than, as these images tell, in the order in which they come."""
    worse = {pair.second if pair.low > 0 else pair.first for pair in differences if pair.certain}
    named = dict.fromkeys(name for pair in differences for name in (pair.first, pair.second))
    return [name for name in named if name in worse]


def _points(pair: Difference) -> str:
    return f"{100 * pair.difference:.1f} points ({100 * pair.low:.1f} to {100 * pair.high:.1f})"


def _power(pair: Difference, images: int) -> str:
    """What so many images could have shown of the best and the next, and how many it would take."""
    said = f"As many show a difference of {100 * pair.shown:.1f} points in four of five cases"
    if pair.needed and pair.needed > images:
        said += f"; one of {100 * pair.difference:.1f} would take {_round(pair.needed):,}"
    return f"{said}."


def _by_log_loss(heads: Mapping[str, ContenderResult], differences: Sequence[Difference]) -> str:
    """Whose probabilities are best, and whose cannot be told from these."""
    behind = ruled_out(differences)
    best, *level = sorted((name for name in heads if name not in behind), key=lambda name: heads[name].log_loss)
    said = f"By log-loss {best} is best, {heads[best].log_loss:.3f}"
    return f"{said}; {' or '.join(level)} cannot be told from it." if level else f"{said}; the others are behind."


def _trees(heads: Mapping[str, ContenderResult], behind: Sequence[str]) -> tuple[str, ...]:
    best, result = next(iter(heads.items()))
    if "xgb" in behind:
        return (f"Trees {'alone ' if 'xgb' in result.parts else ''}do not win here.",)
    if len(heads) > 1 and len(behind) == len(heads) - 1 and best == "xgb":
        return ("Trees win here.",)
    return ()


def _round(images: int) -> int:
    """To two digits: no more of it is known."""
    return int(float(f"{images:.1e}"))


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
    name = next((each for each in left if _far_cheaper(costs[each], costs[best])), best)
    reasons = [f"{best} has the lowest log-loss, {heads[best].log_loss:.3f}, of those that are not ruled out."]
    if way := _far_cheaper(costs[name], costs[best]):
        reasons.append(
            f"{name}, {heads[name].log_loss:.3f}, cannot be told from it and costs far less: "
            f"{costs[name][way].said}, not {costs[best][way].said}."
        )
    ways = {"accuracy": behind, "log-loss": behind_by_log_loss}
    out = {each: " and ".join(way for way in ways if each in ways[way]) for each in heads if each not in left}
    if out:
        reasons.append(f"Ruled out: {', '.join(f'{each} by {by}' for each, by in out.items())}.")
    reasons.append(f"It takes {', '.join(each.said for each in costs[name].values())}.")
    if heads[name].worse_than_guess:
        reasons.append("On unseen images it is no better than a guess by the classes' frequencies.")
    return Recommendation(name=name, reasons=tuple(reasons))


@dataclass(frozen=True)
class _Cost:
    amount: float
    said: str


def _costs(name: str, head: ContenderResult, features_us: float | None) -> dict[str, _Cost]:
    """What is known of its costs, by kind. A retrained network has its own features in its microseconds."""
    us, seconds = head.predict_us_per_image, head.fit_seconds + head.tune_seconds
    if us is not None and name != NETWORK:
        us = None if features_us is None else us + features_us
    image = {} if us is None else {"image": _Cost(us, f"{us:,.0f} µs an image")}
    size = f"{head.bytes / 1e6:,.1f} MB" if head.bytes >= 1e6 else f"{head.bytes / 1e3:,.0f} kB"
    return {**image, "file": _Cost(head.bytes, size), "fit": _Cost(seconds, f"{seconds:,.1f} s to fit")}


def _far_cheaper(costs: Mapping[str, _Cost], others: Mapping[str, _Cost]) -> str | None:
    """In which way one costs far less than another, if it does and is higher in none."""
    both = [kind for kind in costs if kind in others]
    if any(costs[kind].amount > DEAR * others[kind].amount for kind in both):
        return None
    return next((kind for kind in both if costs[kind].amount < CHEAP * others[kind].amount), None)
