from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from sklearn.linear_model import Ridge

from features.table.table import Rows
from features.trunk.spec import TrunkSpec
from models.columns.nodes import NodeScore, _Probe, score_nodes
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


def _titles(*nodes: str) -> tuple[str, ...]:
    return tuple(f"tiny.{node}" for node in nodes)


def test_nodes_are_added_as_long_as_unseen_rows_gain() -> None:
    heard: list[NodeScore] = []
    scores = score_nodes(ThreeNodes(), CPU, heard.append)
    assert [score.nodes for score in scores.alone] == [_titles(node) for node in NODES]
    assert scores.rows == 400
    blind, first, second = scores.alone
    assert blind.accuracy < 0.4
    assert 0.4 < first.accuracy < 0.65
    assert 0.4 < second.accuracy < 0.65
    assert set(scores.best.nodes) == set(_titles("first", "second"))
    assert scores.best.accuracy > 0.95
    assert scores.together.nodes == _titles(*NODES)
    assert scores.best in heard


def test_each_row_is_judged_by_a_probe_that_has_not_seen_it() -> None:
    """The closed form, against ridge regression fitted anew without each row."""
    x = np.random.default_rng(0).normal(size=(24, 6)).astype(np.float16).astype(np.float32)
    y = (np.arange(24) % 3).astype(np.int32)
    keys = np.array([f"{row}" for row in range(24)], object)
    splits = {
        split: Rows(keys=keys[part], x=x[part], y=y[part])
        for split, part in (("train", slice(20)), ("validation", slice(20, 24)))
    }
    probe = _Probe(MemoryTable(splits, ("a", "b", "c")), CPU, lambda _: None)
    (products,) = probe._products.values()
    expected = []
    for left in range(24):
        others = np.delete(np.arange(24), left)
        ridge = 0.01 * ((x - x.mean(axis=0)) ** 2).sum()
        expected.append(Ridge(alpha=ridge).fit(x[others], np.eye(3)[y[others]]).predict(x[[left]])[0])
    assert probe._left_out(products, 0.01 * 24) == pytest.approx(np.array(expected), abs=1e-4)


class Noise(ThreeNodes):
    """Of a few rows: a node that tells all classes apart, more or less, and two of noise."""

    def __init__(self, seed: int) -> None:
        random = np.random.default_rng(seed)
        rows = {}
        for split, count in (("train", 40), ("validation", 8)):
            y = np.arange(count, dtype=np.int32) % 4
            x = random.normal(size=(count, 15)).astype(np.float32)
            x[:, :4] += 2 * np.eye(4, dtype=np.float32)[y]
            rows[split] = Rows(keys=np.array([f"{split}{row}" for row in range(count)], object), x=x, y=y)
        MemoryTable.__init__(self, rows, ("a", "b", "c", "d"))


def test_what_helps_by_luck_alone_is_left_out() -> None:
    left_out, lucky = 0, 0
    for seed in range(40):
        heard: list[NodeScore] = []
        best = score_nodes(Noise(seed), CPU, heard.append).best
        left_out += best.nodes == _titles(NODES[0])
        lucky += any(each.log_loss < best.log_loss for each in heard)
    assert left_out >= 37
    assert lucky >= 4  # so often noise would have been taken for the lower log-loss that it had


def test_select_narrows_the_table_and_the_report_shows_all_nodes(
    treehead: Run, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ("compare", "--dataset", photos, "--image-size", 64, "--node", "features.4,avgpool", "--heads", "knn")
    assert treehead(*command, "--select") == 0
    said = capsys.readouterr()
    selected = said.err.split("selected: ")[1].splitlines()[0].split(", ")
    (report,) = tmp_path.glob("artifacts/compare/*/report.html")
    metrics = json.loads((report.parent / "metrics.json").read_text())
    assert [f"alexnet.{trunk['node']}" for trunk in metrics["trunks"]] == selected
    nodes = metrics["nodes"]
    assert [score["nodes"] for score in nodes["alone"]] == [["alexnet.features.4"], ["alexnet.avgpool"]]
    assert sorted(nodes["best"]["nodes"]) == sorted(selected)
    assert nodes["together"]["nodes"] == ["alexnet.features.4", "alexnet.avgpool"]
    page = report.read_text()
    assert "Networks and nodes" in page
    assert "side by side</th>" in page
    assert f"<td>{nodes['together']['log_loss']:.3f}</td>" in page
    (scores,) = tmp_path.glob("artifacts/models/*/nodes-*.json")
    scores.write_text("{}")
    assert f"{scores.name} is damaged (rows: Field required" in refused(treehead, capsys, *command)
