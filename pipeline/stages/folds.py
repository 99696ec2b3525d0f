"""Each image tested once: heads fitted anew on all folds but its own, made once for each fold and then reused."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import get_args

import numpy as np

from features.devices import resolve_device
from features.locks import locked
from features.sources.source import SPLITS, LearningSplit
from features.storage import Json, digest, replacing
from features.table.folded import LEFT_OUT, FoldedTable
from features.table.joined import JoinedTable
from models.card import classifier_folder
from models.columns.nodes import score_nodes
from models.columns.workspace import Workspace
from models.errors import DataError
from models.heads.head import Head
from models.unseen import Unseen, joined
from pipeline.config import LearningConfig
from pipeline.console import progress, remark
from pipeline.errors import PipelineError

FORMAT = 1
"""Raised when the meaning of what is written changes."""

VALIDATION_FOLDS = 10
"""One part in so many of what a fold may learn from steers it, where there are images enough."""


def splits_in_folds(*, test_given: bool) -> tuple[str, ...]:
    """The splits that are tested in folds: those to learn from where a test split was given, else all images."""
    return get_args(LearningSplit) if test_given else SPLITS


def run_folds(
    heads: Sequence[Head], table: JoinedTable, config: LearningConfig, *, folds: int, splits: Collection[str]
) -> dict[str, Unseen]:
    """What heads say of each image of `splits` who have learnt from the other folds alone, by the head's name.

    The whole of it is done anew in each fold, the choice of nodes included. `table` has all nodes.
    """
    how: dict[str, Json] = {
        "format": FORMAT,
        "folds": folds,
        "splits": sorted(splits),
        "select": config.selects(table.trunks),
    }
    folder = config.features.run.out / "models" / table.name
    kept = {
        head.name: folder / f"folds-{digest({**how, 'head': classifier_folder(head, table)})[:8]}" for head in heads
    }
    missing = {
        fold: names
        for fold in range(folds)
        if (names := [name for name, place in kept.items() if not _file(place, name, fold).exists()])
    }
    if missing:
        _fit_missing(heads, table, config, missing, kept, folds, splits)
    remark(f"folds: each image tested by who had not seen it, {folds} folds{'' if missing else ', reused'}")
    return {name: joined([_read(_file(place, name, fold)) for fold in range(folds)]) for name, place in kept.items()}


def _fit_missing(
    heads: Sequence[Head],
    table: JoinedTable,
    config: LearningConfig,
    missing: Mapping[int, Sequence[str]],
    kept: Mapping[str, Path],
    folds: int,
    splits: Collection[str],
) -> None:
    steps = sum(map(len, missing.values()))
    with progress("folds", steps) as advance:
        for fold, view in _views(table, config, folds, splits, missing):
            for name, unseen in _said(heads, view, missing[fold]):
                with locked(kept[name]), replacing(_file(kept[name], name, fold)) as scratch:
                    unseen.write(scratch)
                advance(1, f"fold {fold + 1}, {name}")


def _views(
    table: JoinedTable, config: LearningConfig, folds: int, splits: Collection[str], wanted: Collection[int]
) -> Iterator[tuple[int, FoldedTable]]:
    """Each fold that is wanted as the test split of a table, the others split for learning."""
    run = config.features.run
    held = FoldedTable.of(table, [split for split in SPLITS if split in splits])
    dealt = held.deal(folds, splits, run.seed)
    for fold in wanted:
        rest = held.with_splits(np.where(dealt == fold, LEFT_OUT, "train"))
        steer = rest.deal(VALIDATION_FOLDS, ("train",), run.seed) == 0
        if not steer.any():
            raise DataError(
                f"{table.folder} has too few different images for folds, where those of the same bytes or of one group "
                "stay together: add others"
            )
        view = held.with_splits(np.where(dealt == fold, "test", np.where(steer, "validation", "train")))
        if config.selects(table.trunks):
            view = view.only(score_nodes(view, resolve_device(run.device), lambda _: None).best.nodes)
        yield fold, view


def _said(heads: Sequence[Head], view: FoldedTable, names: Collection[str]) -> Iterator[tuple[str, Unseen]]:
    """What those heads say of the view's test rows that are among `names`; their parts learn once.

    A fold may have none, where there are fewer groups than folds.
    """
    test = view.read("test")
    nothing = np.empty((0, len(view.classes)), np.float32)
    learnt: dict[str, Head] = {}
    with Workspace() as workspace:

        def fitted(head: Head) -> Head:
            if head.name not in learnt:
                fresh = head.with_settings({})
                fresh.take([fitted(part) for part in head.parts])
                learnt[head.name] = fresh.fit(view, workspace, lambda _: None)
            return learnt[head.name]

        for head in heads:
            if head.name in names:
                said = fitted(head).predict_proba(test.x) if len(test) else nothing
                yield head.name, Unseen(keys=test.keys, labels=test.y, probabilities=said)


def _file(folder: Path, name: str, fold: int) -> Path:
    return folder / f"{name}-{fold + 1}.parquet"


def _read(path: Path) -> Unseen:
    try:
        return Unseen.read(path)
    except ValueError as error:
        raise PipelineError(f"{path} holds {error}: delete it and run again") from error
