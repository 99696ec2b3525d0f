"""The search for better settings of each head before it is trained, made once and then reused."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from features.locks import locked
from features.table.joined import JoinedTable
from models.columns.workspace import Workspace
from models.heads.head import Head
from models.trials import Search
from pipeline.config import LearningConfig
from pipeline.console import detail, progress, remark


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A head yet to be trained, and the searches that found its settings, by the head that these are of.

    There are none where nothing was searched; of a head that is made of others there are those of its parts.
    """

    head: Head
    searches: Mapping[str, Search] = field(default_factory=dict)

    @property
    def parts(self) -> list[Candidate]:
        """The heads that it is made of, each with its own search."""
        return [_candidate(part, self.searches) for part in self.head.parts]

    @property
    def tune_seconds(self) -> float:
        """What the searches took, whenever they were made."""
        return sum((search.seconds for search in self.searches.values()), 0.0)

    @property
    def tried(self) -> int:
        """How many settings they tried."""
        return sum(len(search.tried) for search in self.searches.values())


def find_settings(
    heads: Sequence[Head], table: JoinedTable, workspace: Workspace, config: LearningConfig
) -> list[Candidate]:
    """The heads with the best settings that a search finds for each, or without --tune those for so many classes.

    A head that is part of another as well is searched once.
    """
    heads = [_suited(head, len(table.classes)) for head in heads]
    if not config.tune:
        return [Candidate(head=head) for head in heads]
    found: dict[str, Search] = {}
    for head in heads:
        for each in head.parts or (head,):
            if each.name not in found:
                found[each.name] = _search(each, table, workspace, config)
    return [_candidate(head, found) for head in heads]


def _suited(head: Head, classes: int) -> Head:
    """The head with the settings for so many classes; says which these are where it came with others."""
    suited = head.suited(classes)
    came = head.parameters()
    other = [f"{name} {value}" for name, value in suited.parameters().items() if value != came[name]]
    if other and not head.parts:
        remark(f"{head.name}: for {classes:,} classes {', '.join(other).replace('_', ' ')}")
    return suited


def _candidate(head: Head, found: Mapping[str, Search]) -> Candidate:
    """The head with the settings that were found for it, or for its parts."""
    own = {each.name: found[each.name] for each in head.parts or (head,) if each.name in found}
    return Candidate(head=head.with_settings({name: search.settings for name, search in own.items()}), searches=own)


def _search(head: Head, table: JoinedTable, workspace: Workspace, config: LearningConfig) -> Search:
    from models.search import search, study_name  # Optuna is for those who tune

    path = config.features.run.out / "tune" / table.name / f"{study_name(head, table)}.db"
    with locked(path.parent), progress(f"{head.name} is tuned", config.tune) as advance:
        found = search(
            head,
            table,
            workspace,
            path,
            trials=config.tune,
            on_trial=lambda loss: advance(1, f"lowest validation log-loss {loss:.4f}"),
        )
    how = "reused" if found.reused else f"in {found.seconds:.1f} s"
    remark(f"{head.name}: {len(found.tried)} settings tried, {how}")
    losses = f"validation log-loss {found.given_loss:.4f} -> {found.best_loss:.4f}"
    detail(f"{found.pruned} given up early, {losses}, study {path}")
    return found
