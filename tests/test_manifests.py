from __future__ import annotations

from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from features.errors import SourceError
from features.sources.options import SourceOptions
from features.sources.registry import open_source
from features.sources.source import Source


def opened(dataset: object, data_dir: Path = Path("absent")) -> Source:
    return open_source(str(dataset), SourceOptions(data_dir=data_dir))


def counts(source: Source) -> dict[str, int]:
    return {str(split): int(count) for split, count in source.items["split"].value_counts().items()}


def test_a_manifest_without_training_images(tmp_path: Path) -> None:
    (tmp_path / "a.png").touch()
    (tmp_path / "list.csv").write_text("path,label,split\na.png,x,test\nb.png,y,test\n")
    with pytest.raises(SourceError, match=r"holds no training images"):
        opened(tmp_path / "list.csv")


def test_a_manifest_with_a_field_too_many(tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text("path,label\na.png,x,train\nb.png,y,test\n")
    with pytest.raises(SourceError, match=r"cannot read .*list.csv"):
        opened(tmp_path / "list.csv")


def write_manifest(path: Path, photos: Path, splits: list[str] | None = None) -> None:
    files = sorted(photos.rglob("*.png"))
    frame = pd.DataFrame(
        {"path": [file.relative_to(path.parent).as_posix() for file in files], "label": [f.parent.name for f in files]}
    )
    if splits:
        frame["split"] = splits
    if path.suffix == ".csv":
        frame.to_csv(path, index=False)
    else:
        frame.to_parquet(path)


@pytest.mark.parametrize("name", ["list.csv", "list.parquet"])
def test_manifest(photos: Path, name: str) -> None:
    path = photos.parent / name
    write_manifest(path, photos, splits=(["train"] * 30 + ["val"] * 5 + ["test"] * 5) * 3)
    source = opened(path)
    assert source.classes == ("blue", "green", "red")
    assert counts(source) == {"train": 90, "validation": 15, "test": 15}
    assert source.drawn == ()
    assert source.read(source.items.index[0])[:4] == b"\x89PNG"


def test_manifest_without_splits(photos: Path) -> None:
    write_manifest(photos.parent / "list.csv", photos)
    source = opened(photos.parent / "list.csv")
    assert set(counts(source)) == {"train", "validation", "test"}
    assert source.drawn == ("test", "validation")


def test_manifest_cut_short(photos: Path) -> None:
    path = photos.parent / "list.csv"
    write_manifest(path, photos)
    path.write_bytes(path.read_bytes()[:-6])
    with pytest.raises(SourceError, match=r"has no label in 1 of 120 rows \(first: row 120\)"):
        opened(path)
    parquet = photos.parent / "list.parquet"
    write_manifest(parquet, photos)
    parquet.write_bytes(parquet.read_bytes()[:-6])
    with pytest.raises(SourceError, match=r"cannot read .*list.parquet"):
        opened(parquet)


def test_manifest_with_other_columns(tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text("size,weight,label\n1,2,x\n")
    with pytest.raises(SourceError, match=r"has the columns size, weight, label: expected path, label and perhaps spl"):
        opened(tmp_path / "list.csv")


def test_manifest_with_an_unknown_split(tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text("path,label,split\na.png,x,train\nb.png,y,holdout\n")
    with pytest.raises(SourceError, match=r"has the split 'holdout': expected train, validation or test, or the num"):
        opened(tmp_path / "list.csv")


def test_manifest_that_lists_an_image_twice(tmp_path: Path) -> None:
    (tmp_path / "a.png").touch()
    (tmp_path / "list.csv").write_text("path,label\na.png,x\na.png,y\n")
    with pytest.raises(SourceError, match=r"lists 'a.png' more than once"):
        opened(tmp_path / "list.csv")


def test_listing_is_told_as_it_goes_on(photos: Path) -> None:
    write_manifest(photos.parent / "list.csv", photos)
    told: list[int] = []
    open_source(str(photos.parent / "list.csv"), on_listed=told.append)
    assert sum(told) == 120


def test_only_the_columns_needed_of_a_parquet_list_are_read(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = photos.parent / "list.parquet"
    write_manifest(path, photos)
    pd.read_parquet(path).assign(pixels=[bytes(9)] * 120, size=1).to_parquet(path)
    read: list[str] = []
    whole = pq.ParquetFile.read

    def reading(file: pq.ParquetFile, columns: list[str]) -> pa.Table:
        read.extend(columns)
        return whole(file, columns=columns)

    monkeypatch.setattr(pq.ParquetFile, "read", reading)
    assert len(opened(path).items) == 120
    assert read == ["path", "label"]
