"""What a table must hold before a head can learn from it."""

from __future__ import annotations

from features.errors import some
from features.table.joined import JoinedTable
from features.table.ledger import LEDGER
from models.errors import DataError


def check_learnable(table: JoinedTable) -> None:
    """Look at the labels; raises DataError for one class, a class without training rows, or no validation rows.

    Raises TableError for a table that is not as its manifest says.
    """
    index = table.index()
    trained = set(index.loc[index["split"] == "train", "label"])
    absent = [name for label, name in enumerate(table.classes) if label not in trained]
    if len(table.classes) < 2:
        raise DataError(f"{table.folder} has one class only ({some(table.classes)}): two or more are needed")
    if absent:
        raise DataError(
            f"{table.folder} has no training row of {len(absent)} of its {len(table.classes)} classes "
            f"({some(absent)}): expected one of each at least, see {LEDGER} there for images that could not be "
            "read, add images or remove these classes"
        )
    if not (index["split"] == "validation").any():
        raise DataError(f"{table.folder} has no validation rows: add images to validation")
