from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

import pytest

from pipeline import release
from tests.conftest import Run


def test_the_command_says_which_release_it_is(treehead: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert treehead("--version") == 0
    assert capsys.readouterr().out.strip() == version("treehead") != "0.0.0"


def test_a_checkout_that_nobody_has_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    def version(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(release, "version", version)
    assert release.release() == "0+unknown"
