from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipeline.report.result import Comparison, ContenderResult, Recommendation
from pipeline.report.verdict import recommend

KEPT = Comparison.open(Path(__file__).parent / "golden")["linear"]


def contender(log_loss: float, **costs: Any) -> ContenderResult:
    """Of 100 µs an image, 10 MB and 50 s to fit, unless told otherwise."""
    usual = {"predict_us_per_image": 100.0, "bytes": 10_000_000, "fit_seconds": 40.0, "tune_seconds": 10.0}
    return replace(KEPT, log_loss=log_loss, **usual | costs)


def shipped(
    behind: tuple[str, ...] = (), by_log_loss: tuple[str, ...] = (), **heads: ContenderResult
) -> Recommendation:
    return recommend(heads, behind, by_log_loss, 1000.0)


def test_the_lowest_log_loss_is_shipped() -> None:
    found = shipped(xgb=contender(0.3), linear=contender(0.2))
    assert found.name == "linear"
    assert found.reasons == (
        "linear has the lowest log-loss, 0.200, of those that are not ruled out.",
        "It takes 1,100 µs an image, 10.0 MB, 50.0 s to fit.",
    )


def test_whoever_is_ruled_out_by_either_measure_is_not_shipped() -> None:
    heads = {"xgb": contender(0.1), "linear": contender(0.2), "mlp": contender(0.3), "knn": contender(0.4)}
    found = shipped(("xgb", "knn"), ("mlp", "knn"), **heads)
    assert found.name == "linear"
    assert "Ruled out: xgb by accuracy, mlp by log-loss, knn by accuracy and log-loss." in found.reasons
    assert shipped(("linear", "knn"), ("xgb", "mlp"), **heads).name == "linear"  # nobody is left: log-loss alone counts


@pytest.mark.parametrize(
    ("costs", "said"),
    [
        ({"bytes": 900_000}, "900 kB, not 10.0 MB"),
        ({"fit_seconds": 4.0, "tune_seconds": 0.0}, "4.0 s to fit, not 50.0 s to fit"),
        ({"bytes": 900_000, "fit_seconds": 44.0}, "900 kB, not 10.0 MB"),
    ],
)
def test_one_that_costs_less_than_a_tenth_is_shipped_instead(costs: dict[str, float], said: str) -> None:
    found = shipped(hybrid=contender(0.2), linear=contender(0.21, **costs))
    assert found.name == "linear"
    assert found.reasons[1] == f"linear, 0.210, cannot be told from it and costs far less: {said}."


@pytest.mark.parametrize(
    "costs",
    [
        {"bytes": 1_000_000},  # a tenth
        {"bytes": 900_000, "fit_seconds": 60.0},  # dearer elsewhere
        {"predict_us_per_image": 5.0},  # features cost as much as ever
    ],
)
def test_one_that_is_hardly_cheaper_or_dearer_elsewhere_is_not(costs: dict[str, float]) -> None:
    assert shipped(hybrid=contender(0.2), linear=contender(0.21, **costs)).name == "hybrid"


def test_one_that_is_ruled_out_is_not_shipped_for_its_price() -> None:
    assert shipped((), ("linear",), hybrid=contender(0.2), linear=contender(0.3, bytes=9)).name == "hybrid"


def test_a_network_has_its_own_features_in_what_it_costs() -> None:
    network = contender(0.2, predict_us_per_image=12_000.0)
    found = shipped(network=network, linear=contender(0.21, predict_us_per_image=100.0))
    assert "costs far less: 1,100 µs an image, not 12,000 µs an image." in found.reasons[1]


def test_what_is_not_known_does_not_count() -> None:
    heads = {"hybrid": contender(0.2, predict_us_per_image=None), "linear": contender(0.21, bytes=9)}
    assert recommend(heads, (), (), 1000.0).name == "linear"
    alone = recommend({"linear": contender(0.2, worse_than_guess=True)}, (), (), None)
    assert alone.reasons[1:] == (
        "It takes 10.0 MB, 50.0 s to fit.",
        "On unseen images it is no better than a guess by the classes' frequencies.",
    )
