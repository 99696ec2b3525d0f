"""How well each depth of the network does, found once and then reused; and a table of the best of them."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from features.devices import resolve_device
from features.locks import locked
from features.storage import digest, from_json, read_json, write_json
from features.table.joined import JoinedTable
from models.columns.depths import Depths, score_depths
from models.columns.workspace import Workspace
from pipeline.config import LearningConfig
from pipeline.console import accuracy_in_words, detail, progress, remark
from pipeline.errors import PipelineError

FORMAT = 1
"""Raised when what is written changes, so that older scores are not taken for newer."""


def run_depths(table: JoinedTable, workspace: Workspace, config: LearningConfig) -> Depths | None:
    """Score the nodes of a table on validation rows, or find them scored; None where there is one node only."""
    if len(table.tables) == 1:
        return None
    folder = config.features.run.out / "models" / table.name
    path = folder / f"depths-{digest({'format': FORMAT, 'table': table.identity})[:8]}.json"
    with locked(folder):
        return _read(path) if path.exists() else _score(table, workspace, config, path)


def _score(table: JoinedTable, workspace: Workspace, config: LearningConfig, path: Path) -> Depths:
    count = len(table.tables)
    with progress("depths are compared", count * (count + 1) // 2) as advance:
        depths = score_depths(
            table,
            workspace,
            resolve_device(config.features.run.device),
            lambda score: advance(1, f"{' + '.join(score.nodes)} {score.accuracy:.1%}"),
        )
    write_json(path, asdict(depths))
    remark(f"depths: best are {' + '.join(depths.best.nodes)}, {accuracy_in_words(depths.best.accuracy)}")
    alone = ", ".join(f"{score.nodes[0]} {score.accuracy:.1%}" for score in depths.alone)
    detail(f"a linear discriminant on each alone: {alone}")
    return depths


def _read(path: Path) -> Depths:
    try:
        return from_json(Depths, read_json(path))
    except ValueError as error:
        raise PipelineError(f"{path} is damaged ({error}): delete it and run again") from error


def best_nodes(table: JoinedTable, depths: Depths | None) -> JoinedTable:
    """The tables of the nodes that do best together, in the order of the network."""
    if depths is None:
        return table
    kept = [each for each in table.tables if each.spec.trunk.node in depths.best.nodes]
    remark(f"nodes selected: {', '.join(each.spec.trunk.node for each in kept)}")
    return JoinedTable(kept)
