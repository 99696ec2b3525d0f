"""A comparison read back: `golden/metrics.json` was kept of an earlier commit (see `golden/make.py`)."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from features.storage import Json, read_json, sealed, unsealed, write_json
from pipeline.errors import ResultError
from pipeline.report.result import METRICS, SEAL, Comparison

GOLDEN = Path(__file__).parent / "golden" / "metrics.json"


@pytest.fixture
def comparison() -> Comparison:
    return Comparison.open(GOLDEN)


def test_a_comparison_is_written_as_it_was_read(comparison: Comparison, tmp_path: Path) -> None:
    comparison.write(tmp_path)
    assert (tmp_path / "metrics.json").read_bytes() == GOLDEN.read_bytes()
    assert Comparison.open(tmp_path) == comparison


def test_what_a_comparison_tells(comparison: Comparison) -> None:
    assert list(comparison.heads) == ["xgb", "linear", "knn"]
    assert comparison.best == "xgb"
    assert comparison["linear"].accuracy == 0.64
    matrix = comparison["linear"].confusion_matrix
    assert matrix is not None
    assert np.sum(matrix) == comparison.rows["test"] == 25
    assert comparison.trunks[0].node == "features.4"
    assert comparison.nodes is not None
    assert comparison.nodes.best.nodes == ("alexnet.features.4",)
    assert [trial.number for trial in comparison.tuning["xgb"]] == [0, 1, 2]
    assert (comparison.unreadable, comparison.test_duplicates) == (1, 1)


def test_a_difference_is_seen_from_either_head(comparison: Comparison) -> None:
    pair, other = comparison.difference("xgb", "knn"), comparison.difference("knn", "xgb")
    assert pair in comparison.differences
    assert (other.first, other.second) == ("knn", "xgb")
    assert (other.difference, other.low, other.high) == (-pair.difference, -pair.high, -pair.low)
    assert not pair.certain
    assert other.swapped() == pair


def test_heads_that_are_not_in_it(comparison: Comparison) -> None:
    with pytest.raises(ResultError, match=r"no head 'mlp' was compared: expected one of xgb, linear, knn"):
        comparison["mlp"]
    for names in (("xgb", "mlp"), ("xgb", "xgb")):
        with pytest.raises(ResultError, match=r"'xgb' and '.*' came: expected two of xgb, linear, knn"):
            comparison.difference(*names)


def test_a_table_has_one_row_a_head(comparison: Comparison) -> None:
    table = comparison.to_pandas()
    assert list(table.index) == ["xgb", "linear", "knn"]
    assert table.loc["knn", "accuracy"] == comparison["knn"].accuracy
    assert {"log_loss", "fit_seconds", "predict_us_per_image", "bytes"} < set(table)


def test_a_place_without_a_comparison(tmp_path: Path) -> None:
    with pytest.raises(ResultError, match=r"no comparison at .*metrics.json \(No such file.*\): give a folder"):
        Comparison.open(tmp_path)
    with pytest.raises(ResultError, match=r"no comparison at .*else.json \(No such file"):
        Comparison.open(str(tmp_path / "else.json"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": 6}, r"format 6, expected 12"),
        ({"rows": {"test": 2.5}}, r"rows.test: .*integer"),
        ({"colour": "red"}, r"colour: "),
        ({"trunks": [{"backbone": "alexnet"}]}, r"trunks.0.*required"),
        ({"nodes": "none"}, r"nodes: "),
        ({"tuning": {"xgb": [{"number": 0, "loss": None, "state": "lost"}]}}, r"tuning.xgb.0.state: "),
    ],
)
def test_a_file_of_something_else(changes: dict[str, Json], message: str, tmp_path: Path) -> None:
    write_json(tmp_path / METRICS, sealed({**unsealed(read_json(GOLDEN), SEAL), **changes}, SEAL))
    with pytest.raises(
        ResultError, match=rf"metrics.json is no comparison \({message}.*\): delete it and compare again"
    ):
        Comparison.open(tmp_path)


@pytest.mark.parametrize("changes", [{"dataset": "others"}, {"format": 6}])
def test_a_file_that_was_changed(changes: dict[str, Json], tmp_path: Path) -> None:
    whole = json.loads(GOLDEN.read_text())
    write_json(tmp_path / METRICS, whole | changes)
    with pytest.raises(ResultError, match=r"it has been changed since it was written: its SHA-256 differs"):
        Comparison.open(tmp_path)
    del whole[SEAL]
    write_json(tmp_path / METRICS, whole | changes)
    with pytest.raises(ResultError, match=r"metrics.json is no comparison \(no metrics_sha256\): delete it"):
        Comparison.open(tmp_path)


@pytest.mark.parametrize("text", ["", "[]", "3", GOLDEN.read_text()[:-30]])
def test_a_file_that_is_cut_short_or_foreign(text: str, tmp_path: Path) -> None:
    (tmp_path / "metrics.json").write_text(text)
    with pytest.raises(ResultError, match=r"metrics.json is no comparison \(.*\): delete it and compare again"):
        Comparison.open(tmp_path)
