"""The search for better settings of each head before it is trained, made once and then reused."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from features.table.joined import JoinedTable
from models.heads.head import Head
from models.heads.hybrid import HybridHead
from models.heads.registry import make_head
from pipeline.config import XgbConfig
from pipeline.console import progress, remark

Trials = list[dict[str, Any]]
"""`number`, `loss` and `state` of each of the settings that a search tried, in order."""


def tune_heads(heads: Sequence[Head], table: JoinedTable, config: XgbConfig) -> tuple[list[Head], dict[str, Trials]]:
    """The heads with the best settings that were found for them, and the searches by head.

    A head that is part of a hybrid as well is searched once. Without --tune they are the heads that came.
    """
    if not config.tune:
        return list(heads), {}
    tuned: dict[str, Head] = {}
    searches: dict[str, Trials] = {}
    for head in heads:
        for part in head.parts if isinstance(head, HybridHead) else (head,):
            if part.name not in tuned:
                tuned[part.name], searches[part.name] = _tune(part, table, config)
    return [_of_tuned(head, tuned) if isinstance(head, HybridHead) else tuned[head.name] for head in heads], searches


def _tune(head: Head, table: JoinedTable, config: XgbConfig) -> tuple[Head, Trials]:
    from models.search import study_name, tune  # Optuna is for those who tune

    path = config.features.run.out / "tune" / table.name / f"{study_name(head, table)}.db"
    with progress(f"{head.name} is tuned", config.tune) as advance:
        found = tune(
            head,
            table,
            path,
            trials=config.tune,
            on_trial=lambda loss: advance(1, f"lowest validation log-loss {loss:.4f}"),
        )
    losses = f"validation log-loss {found.given_loss:.4f} -> {found.best_loss:.4f}"
    how = "reused" if found.reused else "study"
    tried = f"tuned in {found.seconds:.1f} s, {len(found.tried)} settings tried ({found.pruned} pruned)"
    remark(f"{head.name}: {tried}, {losses}, {how} {path}")
    tuned = make_head(head.name, settings=found.settings, seed=head.seed, device=head.device)
    tuned.tuning = {"tune_seconds": found.seconds, "tried": len(found.tried)}
    return tuned, [asdict(trial) for trial in found.tried]


def _of_tuned(hybrid: HybridHead, tuned: dict[str, Head]) -> HybridHead:
    """The hybrid of tuned parts; their searches' costs are its own."""
    parts = [tuned[part.name] for part in hybrid.parts]
    whole = HybridHead(hybrid.settings, seed=hybrid.seed, device=hybrid.device, parts=parts)
    whole.tuning = {name: sum(part.tuning[name] for part in parts) for name in ("tune_seconds", "tried")}
    return whole
