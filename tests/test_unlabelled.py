"""Images without labels: they become features, and nothing learns from them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from features.extract import extract
from features.sources.registry import open_source
from features.sources.source import UNLABELLED
from features.table.joined import JoinedTable
from features.table.table import FeatureTable
from features.trunk.trunk import Trunk
from tests.conftest import Run, write_images


@pytest.fixture
def heap(tmp_path: Path) -> Path:
    """Images in no class folder."""
    write_images(tmp_path / "heap", "red", 9)
    return tmp_path / "heap"


def test_a_table_of_images_without_labels_has_null_for_a_label(heap: Path, tiny_trunk: Trunk, tmp_path: Path) -> None:
    source = open_source(str(heap), unlabelled=True)
    done = extract(source, [tiny_trunk], tmp_path / "out", max_bad=0, on_images=lambda _: None)
    (table,) = done.tables
    stored = pq.read_table(table.shards[0], columns=["label", "split"])
    assert stored["label"].null_count == 9
    assert stored["split"].unique().to_pylist() == ["all"]
    again = FeatureTable.open(table.folder)
    rows = again.read("all")
    assert rows.x.shape == (9, tiny_trunk.dims[0])
    assert np.isfinite(rows.x).all()
    assert (rows.y == UNLABELLED).all()
    assert (again.index()["label"] == UNLABELLED).all()
    assert len(JoinedTable([again, again]).read("all")) == 9


def test_features_takes_images_without_labels_and_nothing_else_does(
    heap: Path, treehead: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    small = ("--backbone", "squeezenet1_1", "--weights", "random", "--image-size", "32")
    assert treehead("features", heap, *small) == 0
    assert "features: 9 all images" in capsys.readouterr().err
    assert treehead("xgb", heap, *small) == 2
    assert "has no labels: a classifier learns from a folder of images for each class" in capsys.readouterr().err
