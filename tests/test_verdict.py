from __future__ import annotations

from dataclasses import replace
from itertools import combinations

from pipeline.report.result import Comparison, HeadResult
from pipeline.report.statistics import Difference
from pipeline.report.verdict import verdict
from tests.test_result import GOLDEN

HEAD = Comparison.open(GOLDEN)["xgb"]

Accuracies = dict[str, float]


def judged(accuracies: Accuracies, margin: float) -> tuple[str, ...]:
    """The verdict on heads of these accuracies, best first, each difference uncertain by `margin`."""
    heads = {
        name: replace(HEAD, accuracy=accuracy, parameters=_parameters(name)) for name, accuracy in accuracies.items()
    }
    return verdict(heads, [_pair(first, second, heads, margin) for first, second in combinations(heads, 2)])


def _parameters(name: str) -> dict[str, dict[str, None]]:
    return {"parts": {"xgb": None, "linear": None}} if name == "hybrid" else {}


def _pair(first: str, second: str, heads: dict[str, HeadResult], margin: float) -> Difference:
    found = heads[first].accuracy - heads[second].accuracy
    return Difference(first=first, second=second, difference=found, low=found - margin, high=found + margin)


def test_what_cannot_be_told_apart_is_said() -> None:
    assert judged({"linear": 0.9, "xgb": 0.89, "knn": 0.7}, 0.05) == (
        "linear has the highest accuracy, 90.0%; these images cannot tell it from xgb; "
        "knn is behind by 20.0 points (15.0 to 25.0).",
    )


def test_trees_that_win_and_trees_that_do_not() -> None:
    assert judged({"xgb": 0.9, "linear": 0.8}, 0.05)[1:] == ("Trees win here.",)
    assert judged({"xgb": 0.9, "linear": 0.88}, 0.05)[1:] == ()
    assert judged({"xgb": 0.9}, 0.05) == ("xgb has the highest accuracy, 90.0%.",)
    assert judged({"linear": 0.9, "xgb": 0.8}, 0.05)[1:] == ("Trees do not win here.",)


def test_trees_in_a_blend_are_not_all_of_it() -> None:
    assert judged({"hybrid": 0.9, "xgb": 0.8}, 0.05)[1:] == ("Trees alone do not win here.",)


def test_heads_that_share_the_lead() -> None:
    (line,) = judged({"linear": 0.9, "mlp": 0.9}, 0.05)
    assert line == "linear and mlp have the highest accuracy, 90.0%."


def test_the_kept_verdict_is_said_again() -> None:
    kept = Comparison.open(GOLDEN)
    assert verdict(kept.heads, kept.differences) == kept.verdict
