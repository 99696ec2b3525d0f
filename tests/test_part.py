"""Parts of a table: each row is in one of them, and each part is read from its own shards."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks import synthetic
from features.errors import TableError
from features.table.joined import JoinedTable
from features.table.part import PartTable, parts_of
from features.table.table import FeatureTable


@pytest.fixture
def table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> JoinedTable:
    monkeypatch.setattr(synthetic, "SHARD_ROWS", 30)
    return JoinedTable([FeatureTable.open(synthetic.write_synthetic(tmp_path, 600, 8, 0))])


@pytest.mark.parametrize("most", [1, 2, 3, 7, 1000])
def test_each_row_is_in_one_part(most: int, table: JoinedTable) -> None:
    parts = [PartTable(part) for part in parts_of(table, most)]
    assert len(parts) == min(most, table.rows["validation"])
    index = table.index()
    for split in ("train", "validation"):
        rows = [batch for part in parts for batch in part.batches(split, 16)]
        whole = table.read(split)
        assert np.concatenate([batch.keys for batch in rows]).tolist() == whole.keys.tolist()
        assert np.array_equal(np.concatenate([batch.x for batch in rows]), whole.x)
        assert np.array_equal(np.concatenate([batch.y for batch in rows]), whole.y)
        indexes = [part.index() for part in parts]
        keys = [key for each in indexes for key in each.loc[each["split"] == split, "key"]]
        assert keys == index.loc[index["split"] == split, "key"].tolist()
    counts = [part.rows["train"] for part in parts]
    assert max(counts) - min(counts) <= 1


def test_a_part_reads_its_own_shards_alone(table: JoinedTable) -> None:
    first, last = (PartTable(part) for part in parts_of(table, 2))
    (table.folder / "part-00000.parquet").write_bytes(b"")
    assert sum(map(len, last.batches("train"))) == last.rows["train"]
    with pytest.raises(TableError, match=r"part-00000\.parquet"):
        next(first.batches("train"))
