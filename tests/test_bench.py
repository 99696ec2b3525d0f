from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path

import pytest

from pipeline.bench.common import ratio
from pipeline.bench.features import figures, make_photos
from pipeline.bench.measures import Measured
from tests.conftest import Run, refused

ALONE = {"forward alone, eager", "forward alone, fp32", "limit by GEMM, fp32", "decode alone", "transform alone"}


@pytest.mark.slow
def test_bench_features_writes_rates_and_ratios(treehead: Run, capsys: pytest.CaptureFixture[str]) -> None:
    options = ("--dataset", "digits", "--images", 8, "--rounds", 1, "--seconds", 0.01, "--device", "cpu")
    assert treehead("bench", "features", *options, "--networks", "squeezenet1_1") == 0
    content = json.loads(Path("artifacts/bench/features.json").read_text())
    (found,) = content["networks"]
    assert set(found["images_per_second"]) >= ALONE | {"ours, JPEG", "ours, memory", "forward alone, onnxruntime"}
    assert min(found["images_per_second"].values()) > 0
    assert 5e8 < found["flops"] < 9e8  # its authors' 0.35 billion multiplications, and as many additions
    assert 2**27 < found["peak_bytes"] < 2**33
    assert content["cores"] >= 1
    assert content["versions"]["torch"]
    output = capsys.readouterr().out
    assert re.search(r"^ours, JPEG / fastest forward +\d\.\d\d$", output, re.MULTILINE)
    assert "written to artifacts/bench/features.json" in output
    assert [path.name for path in Path("artifacts/bench").iterdir() if path.name.startswith("tmp")] == []


def some_rounds(**rates: Sequence[float]) -> list[Measured]:
    """Two rounds of what any network is measured by, and of `rates`."""
    usual = {"forward alone, eager": [10, 20], "decode alone": [1000, 1000], "transform alone": [500, 1000]}
    ours = {"ours, JPEG": [80, 80], "ours, memory": [90, 60], "limit by GEMM, fp32": [200, 400]}
    every = usual | ours | rates
    rounds = [{what: values[number] for what, values in every.items()} for number in range(2)]
    return [Measured(rates=each, flops=7, peak_bytes=peak) for each, peak in zip(rounds, (3, 2), strict=True)]


def test_ratios_are_taken_within_a_round_of_the_fastest_forward() -> None:
    rates = {"forward alone, onnxruntime": [100, 100], "forward alone, fp32": [110, 50]}
    found = figures("alexnet", some_rounds(**rates), shared=True)
    assert found.fastest == "forward alone, onnxruntime"
    assert (found.images_per_second["forward alone, fp32"], found.peak_bytes) == (80, 3)
    assert found.ratios == {
        "ours, JPEG / fastest forward": 0.8,
        "ours, memory / fastest forward": 0.75,
        "ours, JPEG / eager": 6,
        "fastest forward / limit": 0.375,
        "ours, JPEG / all parts alone": pytest.approx((0.8 * 1.3 + 0.8 * 1.2) / 2),
    }
    beside_a_gpu = figures("alexnet", some_rounds(**rates), shared=False)
    assert beside_a_gpu.ratios["ours, JPEG / all parts alone"] == 0.8


def test_the_limit_is_that_of_the_precision() -> None:
    rates = {"forward alone, bf16": [100, 100], "limit by GEMM, bf16": [400, 400], "textbook, JPEG": [20, 20]}
    ratios = figures("alexnet", some_rounds(**rates), shared=True).ratios
    assert ratios["fastest forward / limit"] == 0.25
    assert ratios["ours, JPEG / textbook"] == 4


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
    assert "unknown backbone 'nothing'" in refused(treehead, capsys, "bench", "features", "--networks", "nothing")
    assert "--networks , names none" in refused(treehead, capsys, "bench", "features", "--networks", ",")
    assert "--images 0 is out of range" in refused(treehead, capsys, "bench", "features", "--images", 0)
    assert "--seconds 0.0 is out of range" in refused(treehead, capsys, "bench", "features", "--seconds", 0)
