"""What lies beside a classifier where its run has left it: the tables that it learnt from."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from itertools import product
from pathlib import Path

from features.errors import TableError
from features.storage import digest
from features.table.joined import JoinedTable
from features.table.manifest import MANIFEST
from features.table.table import FeatureTable
from models.card import Card


def results_of(model: Path) -> Path:
    """OUT of OUT/models/<table>/<head>/<file>, or as much of it as there is."""
    parents = model.absolute().parents
    return parents[min(3, len(parents) - 1)]


def find_table(model: Path, card: Card) -> JoinedTable | None:
    """The tables that the classifier at `model` learnt from, side by side; None where they are not there."""
    found: dict[str, list[list[FeatureTable]]] = defaultdict(lambda: [[] for _ in card.trunks])
    for table in _tables(results_of(model) / "features"):
        for number, trunk in enumerate(card.trunks):
            if table.spec.trunk == trunk:
                found[table.spec.dataset][number].append(table)
    for tables in (tables for each in found.values() for tables in product(*each)):
        if digest([table.identity for table in tables]) == card.table_identity:
            return JoinedTable(tables)
    return None


def _tables(folder: Path) -> Iterator[FeatureTable]:
    """Those that are complete."""
    for manifest in sorted(folder.glob(f"*/{MANIFEST}")):
        try:
            yield FeatureTable.open(manifest.parent)
        except TableError:  # of another run that is not done yet, or of another release
            continue
