"""Feature tables of the same images, from one node each, side by side: what heads learn from."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from features.errors import TableError
from features.storage import dataset_folder, digest
from features.table.table import BATCH_ROWS, FeatureTable, Rows
from features.trunk.spec import TrunkSpec

LONGEST_BACKBONES = 80
"""Characters of the names of several networks that are part of a folder's."""


class JoinedTable:
    """One table, or several joined by key, their columns in the order of the tables.

    >>> both = JoinedTable([FeatureTable.open(folder) for folder in ("earlier-table", "table")])
    >>> both.dims, both.read("test").x.shape
    ((256, 512), (11, 768))
    """

    def __init__(self, tables: Sequence[FeatureTable]) -> None:
        first, *others = self.tables = tuple(tables)
        for table in others:
            if (table.spec.dataset, table.spec.classes, table.rows) != (
                first.spec.dataset,
                first.spec.classes,
                first.rows,
            ):
                raise _other_images(table.folder)
        self.folder = first.folder
        self.dataset, self.classes = first.spec.dataset, first.spec.classes
        self.rows, self.errors = first.rows, first.errors

    @property
    def trunks(self) -> tuple[TrunkSpec, ...]:
        """The trunk of each table; those of one network differ in the node."""
        return tuple(table.spec.trunk for table in self.tables)

    @property
    def is_transfer_learning(self) -> bool:
        """Whether any of the networks has learnt elsewhere."""
        return any(trunk.pretrained for trunk in self.trunks)

    @property
    def dims(self) -> tuple[int, ...]:
        """Columns of each table."""
        return tuple(table.spec.dim for table in self.tables)

    @property
    def dim(self) -> int:
        """Columns of all tables together."""
        return sum(self.dims)

    @property
    def name(self) -> str:
        """The table's folder; of several, data set, backbones, how many nodes, and 8 hex digits of all."""
        if len(self.tables) == 1:
            return self.tables[0].spec.folder_name
        backbones = "-".join(dict.fromkeys(trunk.backbone for trunk in self.trunks))[:LONGEST_BACKBONES]
        digits = digest([table.spec.fingerprint for table in self.tables])[:8]
        return dataset_folder(self.dataset, f"-{backbones}-{len(self.tables)}nodes-{digits}")

    @property
    def identity(self) -> str:
        """SHA-256 (64 hex digits) of what is in the tables; the same name may come to hold more with `retry_bad`."""
        return digest([table.identity for table in self.tables])

    def only(self, titles: Collection[str]) -> JoinedTable:
        """The tables of the nodes of these titles alone, in the order that they have here."""
        return JoinedTable([table for table in self.tables if table.spec.trunk.title in titles])

    def read(self, split: str) -> Rows:
        """All rows of a split, in the first table's order."""
        first, *others = self.tables
        rows = first.read(split)
        if not others:
            return rows
        x = np.empty((len(rows), self.dim), np.float32)
        x[:, : first.spec.dim] = rows.x
        start = first.spec.dim
        for table in others:
            joined = table.read(split)
            x[:, start : start + table.spec.dim] = joined.x[order_of(rows.keys, joined.keys, table.folder)]
            start += table.spec.dim
        return Rows(keys=rows.keys, x=x, y=rows.y)

    def batches(self, split: str, size: int = BATCH_ROWS) -> Iterator[Rows]:
        """The rows of a split, at most `size` at a time."""
        for first, *others in zip(*(table.batches(split, size) for table in self.tables), strict=True):
            pairs = zip(self.tables[1:], others, strict=True)
            ordered = [rows.x[order_of(first.keys, rows.keys, table.folder)] for table, rows in pairs]
            yield Rows(keys=first.keys, x=np.hstack([first.x, *ordered]), y=first.y)

    def labels(self, split: str) -> NDArray[np.int32]:
        """The labels of a split, (n,), in the order of `read`."""
        return self.tables[0].labels(split)

    def test_duplicates(self) -> int:
        """How many test images are, byte for byte, training or validation images as well."""
        return self.tables[0].test_duplicates()

    def alike(self, split: str) -> NDArray[np.intp]:
        """A number for each row of a split, (n,), in the order of `read`, as `families` has them."""
        return self.tables[0].alike(split)

    def index(self) -> pd.DataFrame:
        """As `Indexed.index` says, of every row; raises TableError unless all tables have the same."""
        first, *others = (table.index() for table in self.tables)
        for table, index in zip(self.tables[1:], others, strict=True):
            if not index.equals(first):
                raise _other_images(table.folder)
        return first

    def images(self) -> pd.DataFrame:
        """`key` of every row, and what it tells of its image, see `FeatureTable.images`."""
        return self.tables[0].images()

    def thumbnails(self) -> NDArray[np.uint8]:
        """A small grey picture of every row's image, see `FeatureTable.thumbnails`."""
        return self.tables[0].thumbnails()


def order_of(keys: NDArray[np.object_], other: NDArray[np.object_], folder: Path) -> NDArray[np.intp]:
    """Where each of `keys` stands in `other`, those of the table in `folder`; raises TableError for other keys."""
    order = pd.Index(other).get_indexer(pd.Index(keys))
    if len(keys) != len(other) or (order < 0).any():
        raise _other_images(folder)
    return order


def _other_images(folder: Path) -> TableError:
    return TableError(
        f"{folder} holds other images than the tables beside it: extract all in one run, with `retry_bad` where images "
        "could not be read"
    )
