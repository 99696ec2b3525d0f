"""What the figures of a comparison say, in a line or two."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pipeline.report.result import ContenderResult
from pipeline.report.simultaneous import Difference


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
