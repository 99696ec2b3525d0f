"""Which nodes of the network to use: a linear discriminant on each alone, then on more of them while validation gains.

All of it follows from one pass over the columns that were put aside for the heads.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from features.table.joined import JoinedTable
from models.columns.discriminant import solve, try_shrinkages
from models.columns.learnable import check_learnable
from models.columns.moments import Frame, moments_of_folds
from models.columns.workspace import Workspace

COLUMNS = 4096
"""How many of all nodes together are put aside, an equal share of each: as many as heads put aside by default."""


@dataclass(frozen=True, kw_only=True)
class NodeScore:
    """How a discriminant on `nodes` does on validation rows: `accuracy` (share), `log_loss` (nats, calibrated)."""

    nodes: tuple[str, ...]
    accuracy: float
    log_loss: float


@dataclass(frozen=True, kw_only=True)
class Depths:
    """`alone` has each node by itself, in the order of the network; `best` the nodes that do best together."""

    alone: tuple[NodeScore, ...]
    best: NodeScore


def score_depths(
    table: JoinedTable, workspace: Workspace, device: torch.device, on_score: Callable[[NodeScore], None]
) -> Depths:
    """Score each node alone; then add to the best one, again and again, the node that lowers log-loss most.

    `on_score` hears of every set of nodes that is tried. Raises DataError where the table's rows do not allow it.
    """
    check_learnable(table)
    chosen = workspace.choose(table, COLUMNS)
    frame = Frame.columns(chosen.train, device)
    (moments,) = moments_of_folds(chosen.train, len(table.classes), 1, frame)
    rows = frame.of(chosen.validation.read())
    labels = chosen.validation.labels
    names = np.repeat([trunk.node for trunk in table.trunks], table.dims)[chosen.select.get_support()]

    def score(nodes: tuple[str, ...]) -> NodeScore:
        columns = torch.from_numpy(np.flatnonzero(np.isin(names, nodes))).to(device)
        part = moments.of_columns(columns)
        tried = try_shrinkages(part, rows[:, columns], labels)
        shrinkage = min(tried, key=lambda each: tried[each])
        predicted = solve(part, shrinkage).scores(rows[:, columns]).argmax(axis=1)
        found = NodeScore(nodes=nodes, accuracy=float(np.mean(predicted == labels)), log_loss=tried[shrinkage])
        on_score(found)
        return found

    alone = tuple(score((trunk.node,)) for trunk in table.trunks)
    best = min(alone, key=lambda each: each.log_loss)
    while len(best.nodes) < len(alone):
        others = [each.nodes[0] for each in alone if each.nodes[0] not in best.nodes]
        longer = min((score((*best.nodes, node)) for node in others), key=lambda each: each.log_loss)
        if longer.log_loss >= best.log_loss:
            break
        best = longer
    return Depths(alone=alone, best=best)
