"""The benchmark of serving measures a server of its own, and fails where one of its lines does."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import Run

pytest.importorskip("uvicorn", reason="uvicorn is not installed: pip install 'treehead[serve]'")

from tests.test_serve import trees

__all__ = ["trees"]


@pytest.mark.servers
@pytest.mark.parametrize(("least", "code"), [(0.0, 0), (9.0, 1)])
def test_clients_are_all_answered(
    trees: Path,
    benchmark: Run,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    least: float,
    code: int,
) -> None:
    monkeypatch.setattr("benchmarks.serve.LEAST_SHARE", least)
    photos = trees.parents[4] / "photos"
    assert benchmark("serve", trees, photos, "--seconds", 1, "--rounds", 1, "--clients", 8, "--images", 9) == code
    output = capsys.readouterr().out
    rows = {line.rsplit("  ", 1)[0].strip(): line.rsplit("  ", 1)[1] for line in output.splitlines() if "  " in line}
    assert rows["of them lost"] == "0"
    assert int(rows["requests"].replace(",", "")) >= 8
    assert rows["answered of those that ran at SIGTERM"] == "8 of 8"
    assert ("of the forward alone is less than 9.0" in output) == bool(code)
