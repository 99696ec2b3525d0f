"""`python -m benchmarks scale`: what a million keys and rows cost, here of few."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks.config import BenchScaleConfig
from benchmarks.keys import Keys, KeysJob, measure_keys
from benchmarks.scale import GIB, HeadJob, Learnt, _broken, _show_heads, _show_keys, exponent, measure_head
from benchmarks.synthetic import SHARD_ROWS, first_rows, write_synthetic
from features.table.table import FeatureTable
from pipeline.errors import ConfigError

KEYS = Keys(keys=1000, shards=2, seconds={"list": 1.0, "index": 2.0}, core_seconds=3, peak_bytes=GIB)
LEARNT = Learnt(rows=1000, seconds=10, aside=2, core_seconds=10, peak_bytes=GIB, before_bytes=GIB // 2, accuracy=0.9)


def test_what_is_promised_is_checked() -> None:
    twice = replace(KEYS, keys=2000, seconds={"list": 2.0, "index": 4.0}, core_seconds=6)
    heads = {"xgb": [LEARNT, replace(LEARNT, rows=2000, core_seconds=20)]}
    assert list(_broken([[KEYS], [twice]], heads)) == []
    slow = replace(twice, seconds={"list": 2.0, "index": 140.0}, core_seconds=12)
    assert list(_broken([[KEYS], [slow]], {})) == ["2,000 keys: 142 s, 1.00 GiB", "keys: the time grows by n^2.00"]
    large = replace(LEARNT, peak_bytes=5 * GIB)
    assert list(_broken([[KEYS]], {"mlp": [large]})) == ["mlp on 1,000 rows: 5.00 GiB"]
    steep = [LEARNT, replace(LEARNT, rows=2000, core_seconds=40)]
    assert list(_broken([[KEYS]], {"xgb": steep, "linear": steep})) == ["xgb: the time grows by n^2.00"]


def test_growth_is_a_slope() -> None:
    assert exponent([1, 2, 4], [3, 6, 12]) == pytest.approx(1)
    assert exponent([1, 10], [5, 500]) == pytest.approx(2)
    assert exponent([1000], [5]) == 0


def test_tables_name_what_was_measured(capsys: pytest.CaptureFixture[str]) -> None:
    _show_keys([[KEYS, replace(KEYS, peak_bytes=2 * GIB)]])
    _show_heads({"xgb": [LEARNT, replace(LEARNT, rows=2000, core_seconds=20)]}, 8)
    said = capsys.readouterr().out
    assert "1,000       2   1.0    2.0  3.0        3.0      2.00" in said
    assert "heads on 8 columns, stopped early: xgb 10 rounds" in said
    assert "n^1.00" in said


def test_keys_are_listed_written_and_found_again(tmp_path: Path) -> None:
    found = measure_keys(KeysJob(keys=3000, folder=tmp_path))
    assert found.shards > 2
    assert list(found.seconds)[-3:] == ["resume, all finished", "resume, all but one", "index"]
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(scope="module")
def synthetic(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_synthetic(tmp_path_factory.mktemp("synthetic"), 20 * SHARD_ROWS, 64, seed=0)


def test_a_synthetic_table_is_written_once(synthetic: Path) -> None:
    written = (synthetic / "manifest.json").stat().st_mtime_ns
    assert write_synthetic(synthetic.parent, 20 * SHARD_ROWS, 64, seed=0) == synthetic
    assert (synthetic / "manifest.json").stat().st_mtime_ns == written


def test_its_first_rows_are_a_table(synthetic: Path) -> None:
    first, whole = first_rows(synthetic, 10 * SHARD_ROWS), FeatureTable.open(synthetic)
    assert first.rows == {"train": 8 * SHARD_ROWS, "validation": SHARD_ROWS, "test": SHARD_ROWS}
    assert np.array_equal(first.read("test").x, whole.read("test").x[:SHARD_ROWS])


def test_a_head_learns_from_it(synthetic: Path) -> None:
    found = measure_head(HeadJob(head="linear", folder=synthetic, rows=10 * SHARD_ROWS, seed=0))
    assert 0.1 < found.accuracy < 1
    assert found.seconds > found.aside > 0


def test_sizes_are_thousands() -> None:
    assert BenchScaleConfig(rows="20, 10").sizes() == [10_000, 20_000]
    with pytest.raises(ConfigError, match="--rows '5' came: expected thousands, 10 or more"):
        BenchScaleConfig(rows="5")
