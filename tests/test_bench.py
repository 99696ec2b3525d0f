from __future__ import annotations

import json
from pathlib import Path
from statistics import median

import pytest

from pipeline.bench.common import ratio
from pipeline.bench.features import make_photos, section
from pipeline.bench.measures import MEASURES, Measured
from tests.conftest import Run, refused


@pytest.mark.slow
def test_bench_features_writes_rates_and_ratios(
    treehead: Run, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.bench.features.resolve_precision", lambda *_: "fp32")  # another doubles all processes
    options = ("--dataset", "digits", "--images", 24, "--rounds", 1, "--seconds", 0.1, "--device", "cpu")
    assert treehead("bench", "features", *options) == 0
    content = json.loads(Path("artifacts/bench/features.json").read_text())
    assert {each["images"] for each in content["sections"]} == {"in memory", "JPEG files"}
    for each in content["sections"]:
        assert set(each["images_per_second"]) == set(MEASURES) - {"copy alone"}
        assert min(each["images_per_second"].values()) > 0
        assert all(2**27 < peak < 2**33 for peak in each["peak_bytes"].values())
        assert set(each["ratios"]) > {"ours / textbook, CSV", "time of five depths / one"}
    assert content["cores"] >= 1
    assert content["versions"]["torch"]
    output = capsys.readouterr().out
    assert "ours / forward alone" in output
    assert "written to artifacts/bench/features.json" in output
    assert [path.name for path in Path("artifacts/bench").iterdir() if path.name.startswith("tmp")] == []


def test_ratios_are_taken_within_a_round() -> None:
    rates = {
        "ours": [90, 45, 60],
        "ours, five depths": [80, 45, 30],
        "textbook, CSV": [30, 15, 30],
        "textbook, nothing written": [45, 45, 60],
        "forward alone": [100, 50, 100],
        "decode alone": [1000, 500, 1000],
        "transform alone": [1000, 500, 1000],
    }
    runs = {what: [Measured(rate=rate, peak_bytes=7) for rate in each] for what, each in rates.items()}
    figures = section("in memory", "fp32", runs, shared=True)
    assert figures.ratios["ours / forward alone"] == 0.9
    assert figures.ratios["ours / textbook, CSV"] == 3
    assert figures.ratios["time of five depths / one"] == 1.125
    assert figures.images_per_second["ours"] == median(rates["ours"]) == 60
    shared = "ours / decode alone + transform alone + forward alone"
    assert section("JPEG files", "fp32", runs, shared=True).ratios[shared] == pytest.approx(0.9 * 1.2)
    beside_a_gpu = "ours / decode alone or transform alone or forward alone"
    assert section("JPEG files", "fp32", runs, shared=False).ratios[beside_a_gpu] == 0.9


@pytest.mark.slow
def test_bench_finetune_writes_rates_and_their_ratio(benchmark: Run, capsys: pytest.CaptureFixture[str]) -> None:
    options = ("--backbone", "squeezenet1_1", "--images", 64, "--rounds", 1, "--device", "cpu")
    assert benchmark("finetune", *options) == 0
    content = json.loads(Path("artifacts/bench/finetune.json").read_text())
    (ours,), (alone,) = content["images_per_second"].values()
    assert list(content["images_per_second"]) == ["ours", "steps alone"]
    assert content["ours / steps alone"] == ours / alone > 0
    assert "ours / steps alone" in capsys.readouterr().out
    assert "--rounds 0 is out of range" in refused(benchmark, capsys, "finetune", "--rounds", 0)


def test_a_ratio_is_taken_within_a_round() -> None:
    assert ratio([30, 12, 9], [60, 12, 10]) == 0.9


def test_photographs_are_cut_once(tmp_path: Path) -> None:
    make_photos(tmp_path, 6)
    files = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*/*.jpg")}
    assert len(files) == 6
    make_photos(tmp_path, 8)
    assert files.items() <= {path: path.stat().st_mtime_ns for path in tmp_path.glob("*/*.jpg")}.items()


def test_a_set_that_is_not_there_is_said_first(treehead: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert "unknown data set 'nowhere'" in refused(
        treehead, capsys, "bench", "features", "--photos", "nowhere", "--dataset", "digits"
    )
    assert "--images 0 is out of range" in refused(treehead, capsys, "bench", "features", "--images", 0)
    assert "--seconds 0.0 is out of range" in refused(treehead, capsys, "bench", "features", "--seconds", 0)
