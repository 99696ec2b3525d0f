"""Heads trained on a feature table, each made once and then reused."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from features.devices import resolve_device
from features.locks import locked
from features.table.joined import JoinedTable
from models.card import Card, classifier_folder, load_classifier, load_unseen, read_card, save_classifier
from models.columns.workspace import FEW_ROWS, Workspace, rows_of_both
from models.heads.head import Classifier, ColumnsHead, Head, OnStep
from models.heads.registry import HeadSettings, make_head
from models.heads.settings import XgbSettings
from pipeline.config import HERE, RunConfig, XgbConfig
from pipeline.console import detail, progress, remark, warn
from pipeline.report.statistics import log_loss_of_guess, score
from pipeline.stages.nodes import best_nodes, run_nodes
from pipeline.stages.search import Candidate, find_settings
from pipeline.stages.tables import make_table, open_run


@dataclass(frozen=True, kw_only=True)
class Trained:
    """A classifier that has learnt, its card, the file that people take away, and the table that it is tested on.

    `tune_seconds` is what the search for its settings took.
    """

    head: Classifier
    card: Card
    path: Path
    table: JoinedTable
    tune_seconds: float = 0.0


def run_xgb(config: XgbConfig) -> Trained:
    """Train the trees that `config` asks for, or find them trained."""
    learning, run = config.learning, config.learning.features.run
    trees = make_heads([XgbSettings.head], HeadSettings(xgb=config.xgb), run)
    opened = open_run(learning.features)
    table = make_table(opened, run)
    if learning.selects(table.trunks):
        table = best_nodes(table, run_nodes(table, run))
    with Workspace() as workspace:
        candidates = find_settings(trees, table, workspace, learning)
        weights, excluded = opened.weights_of(table), opened.source.excluded
        trained = train_heads(candidates, table, workspace, run, weights=weights, excluded=excluded)
    return trained[XgbSettings.head]


def make_heads(names: Sequence[str], settings: HeadSettings, run: RunConfig) -> list[Head]:
    """Heads yet to be trained, on the device of `run`; raises DeviceError before any work is done."""
    device = resolve_device(run.device)
    return [make_head(name, settings, seed=run.seed, device=device) for name in names]


def train_heads(
    candidates: Sequence[Candidate],
    table: JoinedTable,
    workspace: Workspace,
    run: RunConfig,
    *,
    weights: str,
    excluded: int = 0,
) -> dict[str, Trained]:
    """Train heads on a table, or find them trained with the same settings on the same table, in the order given.

    What is part of another as well is trained once. `weights` are what the table's networks can be built from again,
    `excluded` counts the images that were left out, for their cards.
    """
    training = _Training(table=table, workspace=workspace, run=run, weights=weights, excluded=excluded)
    return {candidate.head.name: training.of(candidate) for candidate in candidates}


@dataclass(frozen=True, kw_only=True)
class _Training:
    """Trains heads on one table, each once."""

    table: JoinedTable
    workspace: Workspace
    run: RunConfig
    weights: str
    excluded: int
    trained: dict[str, Trained] = field(default_factory=dict)

    def of(self, candidate: Candidate) -> Trained:
        """A head trained, its parts before it, or found trained."""
        head, table = candidate.head, self.table
        if head.name not in self.trained:
            folder = self.run.out / "models" / table.name / classifier_folder(head, table)
            path = folder / f"{head.name}{head.suffixes[0]}"
            if not path.with_suffix(".json").exists():
                head.take([part for part in (self.of(each).head for each in candidate.parts) if isinstance(part, Head)])
            with locked(path.parent):
                found = path.with_suffix(".json").exists()  # if only by a run that this one waited for
                learnt, card = self._found(path) if found else self._learn(candidate, path)
            self.trained[head.name] = Trained(
                head=learnt, card=card, path=path, table=table, tune_seconds=candidate.tune_seconds
            )
        return self.trained[head.name]

    def _found(self, path: Path) -> tuple[Classifier, Card]:
        learnt, card = load_classifier(path)
        if isinstance(learnt, Head):
            learnt.unseen_ = load_unseen(path, card)
        remark(f"{card.head}: reused")
        detail(str(path))
        return learnt, card

    def _learn(self, candidate: Candidate, path: Path) -> tuple[Classifier, Card]:
        head, table = candidate.head, self.table
        with progress(f"{head.name} learns", head.steps(), foreseen=False) as advance:
            self._fit(head, lambda step: advance(1, step.note))
        if candidate.searches:
            head.learned_ |= {"tune_seconds": candidate.tune_seconds, "tried": candidate.tried}
        scores = score(head.unseen_.probabilities, head.unseen_.labels)
        validation = {"accuracy": scores.accuracy, "log_loss": scores.log_loss}
        save_classifier(head, table, path.parent, weights=self.weights, validation=validation, excluded=self.excluded)
        remark(f"{head.name}: learnt in {head.fit_seconds_:.1f} s, {scores.accuracy:.1%} of unseen images right")
        detail(", ".join(f"{key.replace('_', ' ')} {_short(value)}" for key, value in head.learned_.items()))
        detail(str(path))
        if scores.log_loss >= self._guess:
            warn(
                f"{head.name} is no better on unseen images than a guess by the classes' frequencies (log-loss "
                f"{scores.log_loss:.3f}, the guess {self._guess:.3f}): take another head, or give it more images"
            )
        return head, read_card(path.with_suffix(".json"))

    def _fit(self, head: Head, on_step: OnStep) -> None:
        """Have a head learn: in this process, or in a cluster's workers together, who read a part of the table each."""
        if self.run.on != HERE:
            from models.cluster import fit_on_ray  # an extra, which has been found while features were made

            if isinstance(head, ColumnsHead) and head.shared and rows_of_both(self.table.rows) >= FEW_ROWS:
                fit_on_ray(self.run.address, head, self.table, on_step)
                return
            remark(f"{head.name} learns here: {'so few images do' if head.shared else 'it cannot be learnt in parts'}")
        head.fit(self.table, self.workspace, on_step)

    @cached_property
    def _guess(self) -> float:
        return log_loss_of_guess(self.table)


def _short(value: object) -> str:
    if isinstance(value, dict):
        return "/".join(map(_short, value.values()))
    return f"{value:.4g}" if isinstance(value, float) else str(value)
