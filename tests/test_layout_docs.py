"""The tables of layouts in docs/images.md hold: each row is made on disk and opened."""

from __future__ import annotations

import re
from itertools import product
from pathlib import Path

import pytest

from features.errors import SourceError
from features.sources.options import SourceOptions
from features.sources.registry import open_source
from tests.conftest import ROOT
from tests.test_hub import write_hub
from tests.test_layout import fill

TABLES = re.findall(
    r"^\| (?:what lies there|Parquet files) .*?\n\n", (ROOT / "docs/images.md").read_text(), re.DOTALL | re.MULTILINE
)
ROWS = re.findall(r"^\| (`.*`) \| (refused: )?`(.*?)`.* \|$", "".join(TABLES), re.MULTILINE)


def expanded(pattern: str) -> list[str]:
    """`{a,b}/c` as a/c and b/c."""
    parts = [part.split(",") if place % 2 else [part] for place, part in enumerate(re.split(r"[{}]", pattern))]
    return ["".join(each) for each in product(*parts)]


def make(root: Path, path: str) -> None:
    """A folder of three images, a Parquet file of 60, or another file."""
    if path.endswith("/"):
        fill(root, path)
    elif path.endswith(".parquet"):
        write_hub(root / path, [0, 1] * 30)
    else:
        (root / path).parent.mkdir(exist_ok=True)
        (root / path).write_bytes(b"x")


def test_the_tables_are_found() -> None:
    assert len(TABLES) == 2
    assert len(ROWS) == sum(table.count("\n") - 3 for table in TABLES)  # a heading, a rule and an empty line


@pytest.mark.parametrize(("there", "refused", "said"), ROWS)
def test_a_row_of_the_documentation(tmp_path: Path, there: str, refused: str, said: str) -> None:
    for pattern in re.findall(r"`(.*?)`", there):
        for path in expanded(pattern):
            make(tmp_path / "set", path)
    if not refused:
        assert open_source(str(tmp_path / "set"), SourceOptions(), splits=(), unlabelled=True).layout == said
        return
    option = re.sub(r"--(\w+) (\w+)", r"`\1=\2`", said)  # as the command line words it
    with pytest.raises(SourceError, match=re.escape(option)):
        open_source(str(tmp_path / "set"), SourceOptions(), splits=(), unlabelled=True)
