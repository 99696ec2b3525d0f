"""Heads learnt by two one-core nodes of a Ray cluster beside those of one process: how far apart they are."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
import xgboost
from numpy.typing import NDArray

from features.table.joined import JoinedTable
from models.cluster import fit_on_ray
from models.columns.workspace import Workspace
from models.fitted import Arrays
from models.heads.head import ColumnsHead
from models.heads.registry import DEFAULTS, make_head
from pipeline.console import remark, result_table
from pipeline.report.statistics import Scores, score

HEADS = ("xgb", "linear", "mlp")

ALIKE = 0.95
"""The share of test images that both must put in the same class."""


@dataclass(frozen=True, kw_only=True)
class Pair:
    """A head learnt here and there: what both say of test images, (n, k), and the seconds that each took."""

    name: str
    heads: tuple[ColumnsHead, ColumnsHead]
    said: tuple[NDArray[np.float32], NDArray[np.float32]]
    seconds: tuple[float, float]
    scores: tuple[Scores, Scores]

    @property
    def alike(self) -> float:
        """The share of images that both put in the same class."""
        here, there = (said.argmax(axis=1) for said in self.said)
        return float((here == there).mean())

    @property
    def apart(self) -> tuple[float, float]:
        """How far apart their probabilities are: of half of the images, and of ninety-nine in a hundred."""
        apart = np.abs(self.said[0] - self.said[1]).max(axis=1)
        return float(np.median(apart)), float(np.quantile(apart, 0.99))

    def broken(self) -> Iterator[str]:
        """What is not as it should be."""
        here, there = self.scores
        if not here.accuracy_low <= there.accuracy <= here.accuracy_high:
            yield f"{self.name}: {there.accuracy:.2%} right there, outside of the interval of {here.accuracy:.2%} here"
        if self.alike < ALIKE:
            yield f"{self.name}: {self.alike:.1%} of images are in the same class, expected {ALIKE:.0%}"


def compare_heads(table: JoinedTable, address: str, seed: int) -> list[str]:
    """Let heads learn here and there, and print how far apart they are; returns what is not as it should be."""
    pairs = [_pair(name, table, address, seed) for name in HEADS]
    titles = ("head", "right here", "there", "log-loss here", "there", "same class", "half apart", "99 % apart", "time")
    rows = [
        (
            pair.name,
            *(f"{scores.accuracy:.2%}" for scores in pair.scores),
            *(f"{scores.log_loss:.4f}" for scores in pair.scores),
            f"{pair.alike:.2%}",
            *(f"{apart:.4f}" for apart in pair.apart),
            f"{pair.seconds[1] / pair.seconds[0]:.2f}",
        )
        for pair in pairs
    ]
    result_table(titles, rows, title=f"{table.rows['train']:,} training images, {table.rows['test']:,} test images")
    here, there = (_splits(head.arrays_) for head in pairs[0].heads)
    shared = here.keys() & there.keys()
    same = sum(here[node] == there[node] for node in shared) / max(len(shared), 1)
    remark(f"xgb: {same:.0%} of the nodes of the first round's trees split the same column")
    return [line for pair in pairs for line in pair.broken()]


def _pair(name: str, table: JoinedTable, address: str, seed: int) -> Pair:
    heads = [_head(name, table, seed) for _ in range(2)]
    y, seconds = table.labels("test"), [time.perf_counter()]
    with Workspace() as workspace:
        heads[0].fit(table, workspace, lambda _: None)
    seconds.append(time.perf_counter())
    fit_on_ray(address, heads[1], table, lambda _: None)
    seconds.append(time.perf_counter())
    one, other = (np.concatenate([head.predict_proba(rows.x) for rows in table.batches("test")]) for head in heads)
    remark(f"{name}: learnt here and there")
    return Pair(
        name=name,
        heads=(heads[0], heads[1]),
        said=(one, other),
        seconds=(seconds[1] - seconds[0], seconds[2] - seconds[1]),
        scores=(score(one, y), score(other, y)),
    )


def _head(name: str, table: JoinedTable, seed: int) -> ColumnsHead:
    head = make_head(name, DEFAULTS, seed=seed, device=torch.device("cpu")).suited(len(table.classes))
    assert isinstance(head, ColumnsHead)
    return head


def _splits(arrays: Arrays) -> dict[str, str]:
    """Which column each node of the first round's trees splits, a column of the table or a discriminant."""
    booster = xgboost.Booster(model_file=bytearray(arrays["trees"].tobytes()))[:1]
    columns = [f"column {place}" for place in np.flatnonzero(arrays["places"] < arrays["columns"])]
    names = columns + [f"discriminant {number}" for number in range(booster.num_features() - len(columns))]
    nodes = booster.trees_to_dataframe().query("Feature != 'Leaf'")
    return {str(node): names[int(str(name)[1:])] for node, name in zip(nodes["ID"], nodes["Feature"], strict=True)}
