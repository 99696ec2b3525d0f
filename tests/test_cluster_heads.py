"""Heads that the workers of a Ray cluster learn together, here of two nodes with a core each, on this machine."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from ray.cluster_utils import Cluster

from benchmarks import synthetic
from benchmarks.cluster import workers
from features.errors import ClusterError
from features.table.joined import JoinedTable
from features.table.part import Part, parts_of
from features.table.table import FeatureTable
from models.cluster import Learner, fit_on_ray
from models.columns.workspace import Workspace
from models.heads.head import ColumnsHead, Step
from models.heads.registry import HeadSettings, make_head
from models.heads.settings import LinearSettings, MlpSettings, XgbSettings
from tests.clusters import two_nodes
from tests.conftest import Run

pytestmark = pytest.mark.servers

SETTINGS = HeadSettings(
    xgb=XgbSettings(rounds=20, column_share=1.0, max_bin=256),
    linear=LinearSettings(penalties=(0.1,), shrinkages=(0.3,)),
    mlp=MlpSettings(epochs=4, shrinkages=(0.3,)),
)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with two_nodes() as cluster:
        yield cluster


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> JoinedTable:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(synthetic, "SHARD_ROWS", 400)
        folder = synthetic.write_synthetic(tmp_path_factory.mktemp("synthetic"), 4000, 32, 0)
    return JoinedTable([FeatureTable.open(folder)])


def head_of(name: str) -> ColumnsHead:
    head = make_head(name, SETTINGS, seed=0, device=torch.device("cpu"))
    assert isinstance(head, ColumnsHead)
    return head


@pytest.mark.parametrize(("name", "apart"), [("xgb", 0.05), ("linear", 1e-3), ("mlp", 0.05)])
def test_what_is_learnt_together_says_what_one_process_says(
    name: str, apart: float, table: JoinedTable, cluster: Cluster
) -> None:
    here, there = head_of(name), head_of(name)
    steps: list[Step] = []
    with Workspace() as workspace:
        here.fit(table, workspace, lambda _: None)
    fit_on_ray(cluster.address, there, table, steps.append)
    assert there.learned_["workers"] == 2
    assert there.classes_ == table.classes
    assert len(steps) > 1
    assert there.unseen_.keys.tolist() == here.unseen_.keys.tolist()
    test = table.read("test")
    one, other = here.predict_proba(test.x), there.predict_proba(test.x)
    assert np.median(np.abs(one - other).max(axis=1)) < apart
    right = [(said.argmax(axis=1) == test.y).mean() for said in (one, other)]
    assert abs(right[0] - right[1]) < 2 * (right[0] * (1 - right[0]) / len(test)) ** 0.5


def test_a_worker_that_dies_lets_all_begin_anew(
    table: JoinedTable, cluster: Cluster, caplog: pytest.LogCaptureFixture
) -> None:
    undisturbed, disturbed = head_of("linear"), head_of("linear")
    fit_on_ray(cluster.address, undisturbed, table, lambda _: None)
    killed: list[int] = []

    def on_step(_: Step) -> None:
        if not killed:
            killed.append(workers("Learner.study")[0])
            os.kill(killed[0], signal.SIGKILL)

    with caplog.at_level(logging.WARNING):
        fit_on_ray(cluster.address, disturbed, table, on_step)
    assert "): all begin again" in caplog.text
    assert killed
    assert not workers("Learner.study")
    for name, array in undisturbed.arrays_.items():
        assert np.array_equal(disturbed.arrays_[name], array)


def test_workers_that_die_again_and_again_end_it(table: JoinedTable, cluster: Cluster) -> None:
    with pytest.raises(ClusterError, match="workers died while linear learnt, 3 times: "):
        fit_on_ray(
            cluster.address, head_of("linear"), table, lambda _: os.kill(workers("Learner.study")[0], signal.SIGKILL)
        )


def test_a_worker_says_that_it_does_not_see_the_table(table: JoinedTable, tmp_path: Path) -> None:
    (part,) = parts_of(table, 1)
    elsewhere = Part([tmp_path / "absent"], part.stretches)
    with pytest.raises(ClusterError, match=r"a worker does not see .*absent: give an `out` that all nodes reach"):
        list(Learner(1).study((head_of("linear"), {}, "/"), elsewhere, 0))


def test_few_images_are_learnt_from_here(
    treehead: Run, photos: Path, cluster: Cluster, capsys: pytest.CaptureFixture[str]
) -> None:
    treehead("xgb", photos, "--on", "ray", "--address", cluster.address, "--backbone", "squeezenet1_1")
    assert "xgb learns here: so few images do" in capsys.readouterr().err
