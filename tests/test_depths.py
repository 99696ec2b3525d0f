from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from features.table.table import Rows
from features.trunk.spec import TrunkSpec
from models.columns.depths import NodeScore, score_depths
from models.columns.workspace import Workspace
from tests.conftest import CPU, Run, refused, tiny_spec
from tests.test_heads import MemoryTable

NODES = ("blind", "first", "second")


class ThreeNodes(MemoryTable):
    """Four classes: `blind` knows nothing of them, `first` and `second` tell half of them apart each."""

    def __init__(self) -> None:
        super().__init__({split: _rows(split) for split in ("train", "validation", "test")}, ("a", "b", "c", "d"))

    @property
    def trunks(self) -> tuple[TrunkSpec, ...]:
        return tuple(tiny_spec(node) for node in NODES)

    @property
    def dims(self) -> tuple[int, ...]:
        return (5, 5, 5)


def _rows(split: str) -> Rows:
    random = np.random.default_rng(len(split))
    y = np.arange(200, dtype=np.int32) % 4
    x = random.normal(size=(200, 15)).astype(np.float32)
    x[:, 5:10] += 3 * (y % 2)[:, None]
    x[:, 10:] += 3 * (y // 2)[:, None]
    return Rows(keys=np.array([f"{split}{row}" for row in range(200)], object), x=x, y=y)


def test_nodes_are_added_as_long_as_validation_gains(workspace: Workspace) -> None:
    heard: list[NodeScore] = []
    depths = score_depths(ThreeNodes(), workspace, CPU, heard.append)
    assert [score.nodes for score in depths.alone] == [(node,) for node in NODES]
    blind, first, second = depths.alone
    assert blind.accuracy < 0.4
    assert 0.4 < first.accuracy < 0.65
    assert 0.4 < second.accuracy < 0.65
    assert set(depths.best.nodes[:2]) == {"first", "second"}
    assert depths.best.accuracy > 0.95
    assert depths.best in heard


def test_select_node_narrows_the_table_and_the_report_shows_all_depths(
    treehead: Run, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ("compare", "--dataset", photos, "--image-size", 64, "--node", "features.4,avgpool", "--heads", "knn")
    assert treehead(*command, "--select-node") == 0
    said = capsys.readouterr()
    selected = said.err.split("nodes selected: ")[1].splitlines()[0].split(", ")
    (report,) = tmp_path.glob("artifacts/compare/*/report.html")
    metrics = json.loads((report.parent / "metrics.json").read_text())
    assert [trunk["node"] for trunk in metrics["trunks"]] == selected
    assert [score["nodes"] for score in metrics["depths"]["alone"]] == [["features.4"], ["avgpool"]]
    assert sorted(metrics["depths"]["best"]["nodes"]) == sorted(selected)
    assert "Accuracy by depth" in report.read_text()
    assert treehead(*command, "--select-node") == 0
    assert "depths: best are" not in capsys.readouterr().err  # they are reused
    (scores,) = tmp_path.glob("artifacts/models/*/depths-*.json")
    scores.write_text("{}")
    assert f"{scores.name} is damaged (alone: Field required): delete it" in refused(treehead, capsys, *command)
