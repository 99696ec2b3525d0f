"""`python -m benchmarks inspect`: what it says of planted near-doubles."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from benchmarks.config import BenchInspectConfig
from benchmarks.inspect import _broken, _broken_scale
from benchmarks.many_rows import PAIRS, Scale, ScaleJob, measure_scale, planted_rows
from benchmarks.planted import Bursts, Kind, Planted, judged
from features.near.pairs import Images
from pipeline.errors import ConfigError

GOOD = Kind(
    dataset="set",
    trunk="trunk",
    kind="mirrored",
    images=100,
    planted=20,
    found=20,
    reported=20,
    right=20,
    clean=3,
    seconds=1,
)
WHOLE = Bursts(dataset="set", trunk="trunk", bursts=100, clusters=100, whole=100, purity=1)
SCALES = [
    Scale(rows=1000, by="product", seconds=10, peak_bytes=2**30, recall=1),
    Scale(rows=2000, by="index", seconds=22, peak_bytes=2**30, recall=1),
]


def test_what_is_promised_is_checked() -> None:
    assert list(_broken([GOOD], [WHOLE])) == []
    few = replace(GOOD, found=18)
    assert list(_broken([few], [])) == ["mirrored on set with trunk: recall is 90.0%"]
    wrong = replace(GOOD, reported=40)
    assert list(_broken([wrong], [])) == ["mirrored on set with trunk: precision is 50.0%"]
    split = replace(WHOLE, whole=80)
    assert list(_broken([], [split])) == ["bursts on set with trunk: 80 whole, purity 100.0%"]


def test_what_many_rows_may_cost_is_checked() -> None:
    few, many = SCALES
    assert list(_broken_scale(SCALES)) == []
    assert list(_broken_scale([few, replace(many, seconds=40)])) == ["1,000 to 2,000 rows: the time grows by n^2.00"]
    assert list(_broken_scale([replace(many, recall=0.5)])) == ["2,000 rows: recall is 50.0%"]
    assert list(_broken_scale([replace(many, seconds=700)])) == ["2,000 rows: 700 s, 1.00 GiB"]


def test_bursts_are_whole_or_not() -> None:
    burst = np.array([0, 0, 1, 1, 2, 2, -1, -1])
    labels = np.array([0, 0, 1, 2, 3, 3, 3, 4])
    found = judged("set", "trunk", labels, burst)
    assert (found.bursts, found.clusters, found.whole) == (3, 2, 1)
    assert found.purity == pytest.approx(4 / 5)


def test_pairs_of_the_clean_set_do_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    images = Images(features=np.zeros((5, 2), np.float16), thumbnails=np.zeros((5, 4, 4), np.uint8))
    two = Images(features=images.features[:2], thumbnails=images.thumbnails[:2])
    planted = Planted(
        dataset="set",
        trunk="trunk",
        clean=images,
        originals=np.arange(2),
        calibrating=images,
        copies={"mirrored": two},
        photographs=np.array([3, 4]),
        burst=two,
    )
    clean, more = [(0, 1), (2, 3)], [(0, 1), (2, 3), (3, 5), (2, 5), (0, 6)]
    monkeypatch.setattr(Planted, "pairs", lambda self, parts: np.array(more if parts else clean).T)
    (kind,) = planted.kinds()
    assert (kind.clean, kind.reported, kind.found, kind.right) == (2, 3, 1, 2)
    assert (kind.recall, kind.precision) == (0.5, 2 / 3)


def test_planted_rows_are_found() -> None:
    x, first, second = planted_rows(600, 0)
    assert x.shape == (600, 512)
    assert len(first) == len(second) == min(PAIRS, 150)
    assert len(set(first) | set(second)) == 300
    assert measure_scale(ScaleJob(rows=600, seed=0)).recall == 1


def test_rows_are_numbers() -> None:
    assert BenchInspectConfig(rows="100, 2000").scales() == [100, 2000]
    with pytest.raises(ConfigError, match=r"--rows '5,x' came: expected numbers of 100 or more"):
        BenchInspectConfig(rows="5,x")
