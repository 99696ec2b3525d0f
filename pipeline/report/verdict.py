"""What the figures of a comparison say, in a line or two."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pipeline.report.result import HeadResult
from pipeline.report.statistics import Difference


def verdict(heads: Mapping[str, HeadResult], differences: Sequence[Difference]) -> tuple[str, ...]:
    """Who leads, who cannot be told from it, who is behind, and whether trees win; `heads` come best first."""
    best, result = next(iter(heads.items()))
    against = {pair.second: pair for pair in differences if pair.first == best}
    first = [name for name, head in heads.items() if head.accuracy == result.accuracy]
    level = [name for name, pair in against.items() if not pair.certain and name not in first]
    behind = [pair for name, pair in against.items() if name not in (*first, *level)]
    have = "has" if len(first) == 1 else "have"
    words = [f"{' and '.join(first)} {have} the highest accuracy, {result.accuracy:.1%}"]
    if level:
        words.append(f"these images cannot tell {'it' if len(first) == 1 else 'them'} from {' or '.join(level)}")
    words += [f"{pair.second} is behind by {_interval(pair)}" for pair in behind]
    sentence = "; ".join(words) + "."
    if "xgb" in (pair.second for pair in behind):
        return sentence, f"Trees {'alone ' if 'xgb' in result.parts else ''}do not win here."
    if first == ["xgb"] and against and not level:
        return sentence, "Trees win here."
    return (sentence,)


def _interval(pair: Difference) -> str:
    return f"{100 * pair.difference:.1f} points ({100 * pair.low:.1f} to {100 * pair.high:.1f})"
