"""How well each node of each network does, found once and then reused; and a table of those worth their place."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from features.devices import resolve_device
from features.locks import locked
from features.storage import digest, from_json, read_json, write_json
from features.table.joined import JoinedTable
from models.columns.nodes import NodeScores, score_nodes
from pipeline.config import RunConfig
from pipeline.console import detail, progress, remark
from pipeline.errors import PipelineError

FORMAT = 3
"""Raised when what is written changes, so that older scores are not taken for newer."""


def run_nodes(table: JoinedTable, run: RunConfig) -> NodeScores | None:
    """Score the nodes of a table, or find them scored; None where there is one node only."""
    if len(table.tables) == 1:
        return None
    folder = run.out / "models" / table.name
    path = folder / f"nodes-{digest({'format': FORMAT, 'table': table.identity})[:8]}.json"
    with locked(folder):
        return _read(path) if path.exists() else _score(table, run, path)


def _score(table: JoinedTable, run: RunConfig, path: Path) -> NodeScores:
    count = len(table.tables)
    with progress("nodes are compared", count * (count + 1) // 2 + 1, foreseen=False) as advance:
        scores = score_nodes(
            table,
            resolve_device(run.device),
            lambda score: advance(1, f"{' + '.join(score.nodes)} {score.accuracy:.1%}"),
        )
    write_json(path, asdict(scores))
    for score in scores.alone:
        detail(f"a linear probe on {score.nodes[0]}: {score.accuracy:.1%} right, log-loss {score.log_loss:.3f}")
    return scores


def _read(path: Path) -> NodeScores:
    try:
        return from_json(NodeScores, read_json(path))
    except ValueError as error:
        raise PipelineError(f"{path} is damaged ({error}): delete it and run again") from error


def best_nodes(table: JoinedTable, scores: NodeScores | None) -> JoinedTable:
    """The tables of the nodes that are worth their place, in the order of the table."""
    if scores is None:
        return table
    kept = table.only(scores.best.nodes)
    remark(f"selected: {', '.join(trunk.title for trunk in kept.trunks)}")
    return kept
