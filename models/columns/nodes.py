"""Which nodes of which networks to learn from: a linear probe on each alone, then on more of them while it gains.

The probe is ridge regression to the classes (scikit-learn's RidgeClassifier), each row judged by the probe that all
others would give: its leave-one-out residual, in closed form (Cook and Weisberg 1982; Cawley and Talbot 2003 in this
form). So each training and validation image counts, which protects small sets against the luck of a few; and no column
is chosen by labels that it is then judged by. Products of rows are all it takes: those of nodes side by side are sums.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray

from features.table.joined import JoinedTable
from models.calibration import calibrated
from models.columns.workspace import check_learnable

MOST_ROWS = 2048
"""Rows that the probe sees at most, each class in proportion: more take minutes, and rank nodes alike."""

PENALTIES = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1)
"""Ridge penalties to try, as shares of the sum of all rows' squares."""

LUCK = 2
"""Standard errors by which a node has to gain: with one, 200 classes of 25 images lost three points by a second."""


@dataclass(frozen=True, kw_only=True)
class NodeScore:
    """How the probe does on `nodes`, `<backbone>.<node>` each: `accuracy` (share), `log_loss` (nats, calibrated)."""

    nodes: tuple[str, ...]
    accuracy: float
    log_loss: float


@dataclass(frozen=True, kw_only=True)
class NodeScores:
    """`alone` has each node by itself, in the table's order; `together` all; `best` those that are worth their place.

    `rows` counts the images that judged them.
    """

    rows: int
    alone: tuple[NodeScore, ...]
    together: NodeScore
    best: NodeScore


@dataclass(frozen=True)
class _Tried:
    """A score, and each row's part of its log-loss, `surprise` (n,)."""

    score: NodeScore
    surprise: NDArray[np.float64]

    def gains_on(self, other: _Tried) -> bool:
        """Whether log-loss is lower by more than LUCK standard errors of the difference on the same rows."""
        gain = other.surprise - self.surprise
        return bool(gain.mean() > LUCK * gain.std(ddof=1) / np.sqrt(len(gain)))


def score_nodes(table: JoinedTable, device: torch.device, on_score: Callable[[NodeScore], None]) -> NodeScores:
    """Score each node alone; add to the best one, again and again, the node that lowers log-loss most.

    It stops where that gains less than luck could (two standard errors of the paired difference). `on_score` hears of
    every set of nodes that is tried. Raises DataError where the table's rows do not allow it.
    """
    check_learnable(table)
    probe = _Probe(table, device, on_score)
    titles = tuple(trunk.title for trunk in table.trunks)
    alone = [probe.on((title,)) for title in titles]
    best = min(alone, key=lambda tried: tried.score.log_loss)
    while others := [title for title in titles if title not in best.score.nodes]:
        longer_ones = [probe.on((*best.score.nodes, title)) for title in others]
        longer = min(longer_ones, key=lambda tried: tried.score.log_loss)
        if not longer.gains_on(best):
            break
        best = longer
    return NodeScores(
        rows=len(probe.labels),
        alone=tuple(each.score for each in alone),
        together=probe.on(titles).score,
        best=best.score,
    )


class _Probe:
    """Ridge regression to the `labels` (n,) of some rows, on any of the nodes."""

    def __init__(self, table: JoinedTable, device: torch.device, on_score: Callable[[NodeScore], None]) -> None:
        self._on_score = on_score
        x, self.labels = _some_rows(table)
        starts = np.cumsum((0, *table.dims))
        columns = [slice(start, end) for start, end in pairwise(starts)]
        self._products = {
            trunk.title: _products(torch.from_numpy(x[:, part]).to(device).float())
            for trunk, part in zip(table.trunks, columns, strict=True)
        }
        classes = torch.from_numpy(self.labels).long().to(device)
        members = torch.nn.functional.one_hot(classes, len(table.classes)).float()
        self._frequencies, self._offsets = members.mean(dim=0), members - members.mean(dim=0)

    def on(self, nodes: tuple[str, ...]) -> _Tried:
        """How well rows are classified on `nodes` side by side, by the penalty that suits these best."""
        products = torch.stack([self._products[node] for node in nodes]).sum(dim=0)
        tried = [self._left_out(products, penalty * len(nodes) * len(products)) for penalty in PENALTIES]
        surprises = [calibrated(scores, self.labels, (-2, 6)) for scores in tried]
        scores, surprise = min(zip(tried, surprises, strict=True), key=lambda each: float(each[1].mean()))
        accuracy = float(np.mean(scores.argmax(axis=1) == self.labels))
        found = NodeScore(nodes=nodes, accuracy=accuracy, log_loss=float(surprise.mean()))
        self._on_score(found)
        return _Tried(found, surprise)

    def _left_out(self, products: torch.Tensor, ridge: float) -> NDArray[np.float64]:
        """The class scores (n, k) of each row, of the probe that has not seen it; the mean is not penalised."""
        count = len(products)
        eye = torch.eye(count).to(products)
        root = torch.linalg.solve_triangular(torch.linalg.cholesky(products + ridge * eye), eye, upper=False)
        influence = ridge * root.square().sum(dim=0) - 1 / count
        residuals = ridge * (root.T @ (root @ self._offsets)) / influence[:, None]
        scores: NDArray[np.float64] = (self._offsets + self._frequencies - residuals).double().cpu().numpy()
        return scores


def _some_rows(table: JoinedTable) -> tuple[NDArray[np.float16], NDArray[np.int32]]:
    """At most MOST_ROWS of the training and validation rows, each class in proportion, and their labels."""
    labels = np.concatenate([table.labels("train"), table.labels("validation")])
    by_class = np.argsort(labels, kind="stable")
    count = min(MOST_ROWS, len(labels))
    taken = np.sort(by_class[np.arange(count) * len(labels) // count])
    x, start = np.empty((count, table.dim), np.float16), 0
    for rows in (rows for split in ("train", "validation") for rows in table.batches(split)):
        first, last = np.searchsorted(taken, (start, start + len(rows)))
        x[first:last] = rows.x[taken[first:last] - start]
        start += len(rows)
    return x, labels[taken]


def _products(x: torch.Tensor) -> torch.Tensor:
    """The products (n, n) of rows (n, d) with one another, counted from their mean, at mean square 1."""
    centred = x - x.mean(dim=0)
    products = centred @ centred.T
    return products / products.diagonal().mean().clamp(min=torch.finfo(x.dtype).tiny)
