"""Images in Parquet files, whatever the size of a row group, the order of asking, and the damage."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from features.sources.parquet import rows as hub_rows
from features.sources.parquet.rows import RowGroup, RowReader


def written(path: Path, images: Any, rows: int) -> list[RowGroup]:
    """One row group of `images` in a file, said to have `rows` rows."""
    pq.write_table(pa.table({"image": images}), path, compression="none")
    size = pq.read_metadata(path).row_group(0).total_byte_size
    return [RowGroup(path=path, number=0, rows=rows, size=size, column="image")]


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The Parquet files that are opened, each time."""
    found: list[str] = []
    whole = pq.ParquetFile

    def parquet_file(path: Path, **options: Any) -> Any:
        found.append(path.name)
        return whole(path, **options)

    monkeypatch.setattr(pq, "ParquetFile", parquet_file)
    return found


@pytest.mark.parametrize("in_memory", [100, 1 << 20])
def test_any_order_is_right_and_decodes_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, opened: list[str], in_memory: int
) -> None:
    monkeypatch.setattr(hub_rows, "IN_MEMORY", in_memory)
    monkeypatch.setattr(hub_rows, "AT_ONCE", 100)
    images = [bytes([row]) * (row % 50) for row in range(200)]
    reader = RowReader(tmp_path, written(tmp_path / "a.parquet", pa.array(images), 200))
    order = np.random.default_rng(0).permutation(200)
    assert [reader.read(int(row)) for row in order] == [images[row] for row in order]
    assert opened == ["a.parquet"]


def test_a_large_row_group_is_decoded_in_slices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []
    whole = hub_rows._bytes_and_paths

    def noted(column: Any) -> Any:
        sizes.append(len(column))
        return whole(column)

    monkeypatch.setattr(hub_rows, "AT_ONCE", 1000)
    monkeypatch.setattr(hub_rows, "_bytes_and_paths", noted)
    images = pa.array([np.random.default_rng(row).bytes(100) for row in range(100)])
    RowReader(tmp_path, written(tmp_path / "a.parquet", images, 100)).read(99)
    assert sum(sizes) == 100
    assert max(sizes) <= 10


def test_a_damaged_row_group_is_said_once_and_not_read_again(
    tmp_path: Path, opened: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    groups = written(tmp_path / "a.parquet", pa.array([b"image"] * 9), 9)
    content = bytearray((tmp_path / "a.parquet").read_bytes())
    content[4:40] = b"\xff" * 36
    (tmp_path / "a.parquet").write_bytes(content)
    reader = RowReader(tmp_path, groups)
    for row in range(9):
        with pytest.raises(OSError, match=r"row group 0 of a\.parquet is damaged"):
            reader.read(row)
    assert len(opened) == 1
    assert caplog.text.count("its 9 images cannot be read") == 1


def test_a_row_group_that_is_short_of_rows(tmp_path: Path) -> None:
    reader = RowReader(tmp_path, written(tmp_path / "a.parquet", pa.array([b"image"] * 9), 12))
    with pytest.raises(OSError, match=r"is damaged \(it holds 9 rows of 12\)"):
        reader.read(0)


def test_images_that_rows_name(tmp_path: Path) -> None:
    for name in ("set/data/near.png", "set/images/far.png", "outside.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(name.encode())
    paths = ["near.png", "images/far.png", "../images/far.png", "gone.png", "../../outside.png"]
    paths.append(str(tmp_path / "set/data/near.png"))
    rows = pa.array(
        [{"bytes": None, "path": path} for path in paths], pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    )
    reader = RowReader(tmp_path / "set", written(tmp_path / "set/data/a.parquet", rows, len(paths)))
    assert reader.read(0) == b"set/data/near.png"
    assert reader.read(1) == reader.read(2) == b"set/images/far.png"
    with pytest.raises(OSError, match=r"names gone\.png, which is not there"):
        reader.read(3)
    for row in (4, 5):
        with pytest.raises(OSError, match=r"which is outside of the set's folder"):
            reader.read(row)
