"""One picture twice: in what is learnt from and what is tested, under two labels, or for nothing."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from features.errors import counted
from pipeline.inspection.finding import Facts, Found


def check_doubles(facts: Facts) -> Iterator[Found]:
    """Pairs that leak, pairs whose labels differ, and all other doubles; a pair may be in the first two."""
    first, second, scores = facts.doubles.first, facts.doubles.second, facts.doubles.score.astype(np.float64)
    leaks = _leaks(facts, first, second)
    conflicts = facts.labels[first] != facts.labels[second]
    yield from _leaked(facts, first[leaks], second[leaks], scores[leaks])
    if conflicts.any():
        rows, others = _both_ways(first[conflicts], second[conflicts])
        yield Found(
            code="conflict",
            sentence=f"{_doubled(rows)}, under another label: one of the two is wrong",
            rows=rows,
            others=others,
            scores=np.repeat(scores[conflicts], 2),
        )
    rest = ~leaks & ~conflicts
    if rest.any():
        yield Found(
            code="double",
            sentence=f"{_doubled(second[rest])}, that comes before: it teaches once",
            rows=second[rest],
            others=first[rest],
            scores=scores[rest],
        )


def _doubled(rows: NDArray[np.intp]) -> str:
    count = len(np.unique(rows))
    return f"{counted(count, 'image')} {'have' if count > 1 else 'has'} a double, or nearly one"


def _both_ways(first: NDArray[np.intp], second: NDArray[np.intp]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Each pair twice, one after the other, either of them first."""
    return np.column_stack([first, second]).ravel(), np.column_stack([second, first]).ravel()


def _leaks(facts: Facts, first: NDArray[np.intp], second: NDArray[np.intp]) -> NDArray[np.bool_]:
    """Whether one of each pair may have been learnt from by who was judged on the other."""
    if facts.in_folds:
        apart: NDArray[np.bool_] = facts.families[first] != facts.families[second]
        return apart & (facts.judged[first] | facts.judged[second])
    across: NDArray[np.bool_] = facts.judged[first] != facts.judged[second]
    return across


def _leaked(
    facts: Facts, first: NDArray[np.intp], second: NDArray[np.intp], scores: NDArray[np.float64]
) -> Iterator[Found]:
    """What was judged comes first; in folds both of a pair may have been."""
    rows, others = _both_ways(first, second)
    kept = facts.judged[rows]
    if kept.any():
        rows, others = rows[kept], others[kept]
        where = "images of other folds" if facts.in_folds else "training or validation images"
        yield Found(
            code="leak",
            sentence=f"{_doubled(rows)}, among {where}: what accuracy says of them is too good",
            rows=rows,
            others=others,
            scores=np.repeat(scores, 2)[kept],
        )
