from __future__ import annotations

from dataclasses import replace
from itertools import combinations

from pipeline.report.result import Comparison, ContenderResult
from pipeline.report.simultaneous import Difference
from pipeline.report.verdict import ruled_out, verdict
from tests.test_result import GOLDEN

HEAD = Comparison.open(GOLDEN)["xgb"]

Accuracies = dict[str, float]


def judged(accuracies: Accuracies, margin: float) -> tuple[str, ...]:
    """The verdict on heads of these accuracies, best first, each difference uncertain by `margin`."""
    heads = {
        name: replace(HEAD, accuracy=accuracy, log_loss=1 - accuracy, parameters=_parameters(name))
        for name, accuracy in accuracies.items()
    }
    pairs = [_pair(first, second, heads, margin) for first, second in combinations(heads, 2)]
    return verdict(heads, pairs, pairs, 400)


def _parameters(name: str) -> dict[str, dict[str, None]]:
    return {"parts": {"xgb": None, "linear": None}} if name == "hybrid" else {}


def _pair(first: str, second: str, heads: dict[str, ContenderResult], margin: float) -> Difference:
    found = heads[first].accuracy - heads[second].accuracy
    needed = round(400 * (1.4 * margin / found) ** 2) if found else None
    low, high, shown = found - margin, found + margin, 1.4 * margin
    return Difference(first=first, second=second, difference=found, low=low, high=high, shown=shown, needed=needed)


def test_what_cannot_be_told_apart_is_said() -> None:
    assert judged({"linear": 0.9, "xgb": 0.89, "knn": 0.7}, 0.05) == (
        "linear has the highest accuracy, 90.0%; 400 images cannot tell it from xgb; "
        "knn is behind by 20.0 points (15.0 to 25.0).",
        "As many show a difference of 7.0 points in four of five cases; one of 1.0 would take 20,000.",
        "By log-loss linear is best, 0.100; xgb cannot be told from it.",
    )


def test_trees_that_win_and_trees_that_do_not() -> None:
    trees = ("Trees win here.", "Trees do not win here.")
    assert judged({"xgb": 0.9, "linear": 0.8}, 0.05)[-1] == trees[0]
    assert judged({"xgb": 0.9, "linear": 0.88}, 0.05)[-1] not in trees
    assert judged({"xgb": 0.9}, 0.05) == ("xgb has the highest accuracy, 90.0%.",)
    assert judged({"linear": 0.9, "xgb": 0.8}, 0.05)[-1] == trees[1]


def test_trees_in_a_blend_are_not_all_of_it() -> None:
    assert judged({"hybrid": 0.9, "xgb": 0.8}, 0.05)[-1] == "Trees alone do not win here."


def test_heads_that_share_the_lead() -> None:
    first, *_ = judged({"linear": 0.9, "mlp": 0.9}, 0.05)
    assert first == "linear and mlp have the highest accuracy, 90.0%."


def test_one_that_is_better_than_any_other_rules_it_out() -> None:
    """Also where that other is not the best of all."""
    pairs = [
        Difference(first="linear", second="mlp", difference=0.01, low=-0.01, high=0.03, shown=0.03, needed=900),
        Difference(first="linear", second="xgb", difference=0.02, low=-0.01, high=0.05, shown=0.04, needed=900),
        Difference(first="mlp", second="xgb", difference=0.01, low=0.001, high=0.02, shown=0.02, needed=900),
    ]
    assert ruled_out(pairs) == ["xgb"]


def test_the_kept_verdict_is_said_again() -> None:
    kept = Comparison.open(GOLDEN)
    found = verdict(kept.heads, kept.differences, kept.log_loss_differences, kept.rows["test"])
    assert found == kept.verdict
