"""Files that are damaged anywhere: one line says so, or what is read is right; never other features without a word."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from features.errors import FeaturesError
from features.table.table import FeatureTable
from pipeline.errors import ResultError
from pipeline.report.result import Comparison
from tests.conftest import write_images
from tests.test_extract import contents
from tests.test_table import make_table

GOLDEN = Path(__file__).parent / "golden" / "metrics.json"

STRANGE: tuple[Any, ...] = (None, True, -1, 0.5, 10**30, 1e300, "", "x", "\ud800", [], {}, [[]], {"": None})

Change = Callable[[bytes, random.Random], bytes]
"""Makes other bytes of a file's."""


def flipped(content: bytes, draw: random.Random) -> bytes:
    changed = bytearray(content)
    changed[draw.randrange(len(changed))] ^= 1 << draw.randrange(8)
    return bytes(changed)


def cut(content: bytes, draw: random.Random) -> bytes:
    return content[: draw.randrange(len(content))]


def overwritten(content: bytes, draw: random.Random) -> bytes:
    start = draw.randrange(len(content))
    return content[:start] + draw.randbytes(min(64, len(content) - start)) + content[start + 64 :]


def of_another_type(content: bytes, draw: random.Random) -> bytes:
    """A value anywhere in a JSON file is another, or gone."""
    whole = json.loads(content)
    within, key = draw.choice(list(_places(whole)))
    if draw.random() < 0.3:
        del within[key]
    else:
        within[key] = draw.choice(STRANGE)
    return json.dumps(whole).encode()


def _places(part: Any) -> list[tuple[Any, Any]]:
    """Every place in JSON: the list or dictionary, and the key in it."""
    keys = list(part) if isinstance(part, dict) else range(len(part)) if isinstance(part, list) else ()
    return [(part, key) for key in keys] + [place for key in keys for place in _places(part[key])]


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> FeatureTable:
    """A table of one shard, with a ledger, of `photos` beside it."""
    root = tmp_path_factory.mktemp("good")
    for colour in ("red", "green", "blue"):
        write_images(root / "photos" / colour, colour, 12)
    (root / "photos/red/bad.png").write_bytes(b"no image")
    return make_table(root / "photos", root / "out", max_bad=0.1)


def read(folder: Path) -> tuple[Any, ...]:
    """All that a table tells."""
    table = FeatureTable.open(folder)
    rows = [table.read(split) for split in ("train", "validation", "test")]
    x = np.concatenate([part.x for part in rows]).tobytes()
    told = table.rows, table.errors, table.identity, table.spec, table.ledger().to_csv(), table.index().to_csv()
    return x, [key for part in rows for key in part.keys], *told


def assert_one_line(error: Exception, name: str) -> None:
    """The message is of the file, in a line."""
    assert "\n" not in str(error)
    assert name in str(error)


def holds(good: FeatureTable, name: str, seed: int, folder: Path) -> None:
    """A damaged copy of the table is refused in a line or reads as the good one; features mends it, or says why not."""
    draw = random.Random(f"{name} {seed}")
    shutil.copytree(good.folder, folder / good.folder.name)
    path = folder / good.folder.name / name
    changes: list[Change] = [flipped, cut, overwritten, *[of_another_type] * (3 if path.suffix == ".json" else 0)]
    path.write_bytes(draw.choice(changes)(path.read_bytes(), draw))
    try:
        assert read(path.parent) == read(good.folder)
    except FeaturesError as error:
        assert_one_line(error, path.name)
    try:
        make_table(good.folder.parents[1] / "photos", folder, max_bad=0.1)
    except FeaturesError as error:
        assert_one_line(error, "manifest.json")
    else:
        assert contents(path.parent) == contents(good.folder)
    shutil.rmtree(folder)


def metrics_hold(seed: int, folder: Path) -> None:
    """A damaged comparison is refused in a line or is the good one."""
    draw, good = random.Random(seed), Comparison.open(GOLDEN)
    good.write(folder)
    path = folder / "metrics.json"
    path.write_bytes(draw.choice((flipped, cut, overwritten, of_another_type))(path.read_bytes(), draw))
    try:
        assert Comparison.open(path) == good
    except ResultError as error:
        assert_one_line(error, path.name)


@pytest.mark.parametrize("name", ["manifest.json", "part-00000.parquet", "errors.parquet"])
def test_a_damaged_table_is_refused_or_mended(name: str, good: FeatureTable, tmp_path: Path) -> None:
    for seed in range(12):
        holds(good, name, seed, tmp_path / "copy")


def test_a_damaged_comparison_is_refused(tmp_path: Path) -> None:
    for seed in range(60):
        metrics_hold(seed, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["manifest.json", "part-00000.parquet", "errors.parquet"])
def test_many_damaged_tables_are_refused_or_mended(name: str, good: FeatureTable, tmp_path: Path) -> None:
    for seed in range(12, 300):
        holds(good, name, seed, tmp_path / "copy")


@pytest.mark.slow
def test_many_damaged_comparisons_are_refused(tmp_path: Path) -> None:
    for seed in range(60, 1000):
        metrics_hold(seed, tmp_path)
