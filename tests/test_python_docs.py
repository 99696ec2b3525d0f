from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.conftest import ROOT

PAGE = ROOT / "docs" / "python.md"
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def test_its_examples_run_word_for_word(
    example_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(example_folder)
    page = PAGE.read_text(encoding="utf-8")
    names: dict[str, object] = {}
    for block in BLOCK.finditer(page):
        lines_above = page.count("\n", 0, block.start(1))  # a traceback then names the page's own line
        exec(compile("\n" * lines_above + block[1], str(PAGE), "exec"), names)
    photo, boosted, first, loaded, three, best, difference, everything, trusted = capsys.readouterr().out.splitlines()
    assert photo == loaded == "['oak']"
    assert boosted == "['beech']"
    assert first == "beech"
    assert three == "['beech' 'beech' 'beech']"
    assert best == "linear 1.0"
    assert difference.startswith("Difference(first='linear', second='knn', difference=0.0")
    assert everything.count("beech") == everything.count("oak") == 24
    assert trusted == "['sklearn.feature_selection._univariate_selection.f_classif']"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_pages_import_the_public_face_alone(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert re.findall(r"^\s*(?:from|import) (?:features|models|pipeline)\b(?!:).*", text, re.MULTILINE) == []
