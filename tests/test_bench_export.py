"""`python -m benchmarks export`: what it holds against what, and when it fails."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import export
from tests.conftest import Run, refused


@pytest.mark.slow
def test_it_exports_and_sees_what_is_wrong_on_purpose(
    benchmark: Run, split_photos: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ("export", "--dataset", split_photos, "--trunks", "lite0", "--heads", "xgb,linear", "--epochs", "0")
    defects = {name: export.DEFECTS[name] for name in ("a round short", "classes swapped")}
    monkeypatch.setattr(export, "DEFECTS", defects)
    assert benchmark(*command) == 0
    lines = json.loads(Path("artifacts/bench/export.json").read_text())["lines"]
    assert [(line["head"], line["defect"]) for line in lines] == [
        *(("xgb", ""), ("xgb", "a round short"), ("xgb", "classes swapped"), ("linear", "")),
    ]
    assert "not exported: by features of 30 images" in lines[1]["failure"]
    monkeypatch.setattr(export, "DEFECTS", {"none at all": lambda whole: whole})
    capsys.readouterr()
    assert benchmark(*command) == 1
    assert "split photos, lite0, xgb: none at all was not seen" in capsys.readouterr().err


def test_a_trunk_that_there_is_not(benchmark: Run, capsys: pytest.CaptureFixture[str]) -> None:
    line = refused(benchmark, capsys, "export", "--dataset", "digits", "--trunks", "lite9")
    assert "--trunks lite9 came: expected some of alexnet, alexnet-depths, lite0, both" in line
