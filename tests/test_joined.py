from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from features.errors import TableError
from features.extract import extract
from features.sources.options import SourceOptions
from features.sources.registry import open_source
from features.table.joined import JoinedTable
from features.table.table import FeatureTable
from tests.conftest import make_tiny_trunk


def tables(photos: Path, root: Path, train_limit: int | None = None) -> list[FeatureTable]:
    source = open_source(str(photos), SourceOptions(train_limit=train_limit))
    return extract(source, [make_tiny_trunk("pool", "early")], root, max_bad=0, on_images=lambda _: None).tables


def test_columns_stand_side_by_side(photos: Path, tmp_path: Path) -> None:
    first, second = tables(photos, tmp_path)
    joined = JoinedTable([first, second])
    for split in ("train", "validation", "test"):
        rows = joined.read(split)
        assert np.array_equal(rows.x, np.hstack([first.read(split).x, second.read(split).x]))
        assert rows.keys.tolist() == first.read(split).keys.tolist()
        assert np.array_equal(np.concatenate([batch.x for batch in joined.batches(split, size=7)]), rows.x)
    assert joined.dim == rows.x.shape[1] == 128 + 2048
    assert [trunk.node for trunk in joined.trunks] == ["pool", "early"]


def test_one_table_keeps_its_name(photos: Path, tmp_path: Path) -> None:
    first, second = tables(photos, tmp_path)
    assert JoinedTable([first]).name == first.spec.folder_name
    assert JoinedTable([first, second]).name.startswith("photos-tiny-2nodes-")
    assert JoinedTable([first, second]).identity != JoinedTable([second, first]).identity


def test_rows_are_joined_by_key_not_by_position(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = tables(photos, tmp_path)
    expected = JoinedTable([first, second]).read("train")
    backwards = FeatureTable.open(second.folder)
    rows = second.read("train")
    turned = type(rows)(keys=rows.keys[::-1], x=rows.x[::-1], y=rows.y[::-1])
    monkeypatch.setattr(backwards, "read", lambda _: turned)
    assert np.array_equal(JoinedTable([first, backwards]).read("train").x, expected.x)
    others = type(rows)(keys=rows.keys + "x", x=rows.x, y=rows.y)
    monkeypatch.setattr(backwards, "read", lambda _: others)
    with pytest.raises(TableError, match=r"holds other images than .*: extract all in one run"):
        JoinedTable([first, backwards]).read("train")


def test_tables_of_other_images_are_refused(photos: Path, tmp_path: Path) -> None:
    first, _ = tables(photos, tmp_path / "all")
    _, fewer = tables(photos, tmp_path / "fewer", train_limit=30)
    with pytest.raises(TableError, match=r"holds other images than .*: extract all in one run"):
        JoinedTable([first, fewer])
