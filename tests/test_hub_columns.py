"""Columns of image Parquet files: which is the image, which the label, and what is no class."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from features.errors import SourceError
from features.sources.hub import open_hub
from features.sources.options import SourceOptions
from features.sources.registry import open_source
from features.sources.source import Source

IMAGES = pa.array([{"bytes": bytes([row]), "path": None} for row in range(4)])
HALF = pa.array([0, 1, 0, 1])


def read(tmp_path: Path, columns: dict[str, Any], features: Any = None, asked: str = "") -> Source:
    table = pa.table(columns)
    if features:
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    pq.write_table(table, tmp_path / "train.parquet")
    return open_hub(tmp_path, SourceOptions(columns=asked), lambda _: None)


def labels(source: Source) -> list[str]:
    return [source.classes[label] for label in source.items["label"]]


@pytest.mark.parametrize(
    "kind",
    [
        pa.struct([("bytes", pa.binary()), ("path", pa.string())]),
        pa.struct([("path", pa.large_string()), ("bytes", pa.large_binary())]),
        pa.struct([("bytes", pa.binary())]),
    ],
)
@pytest.mark.parametrize("name", ["image", "img", "whatever"])
def test_images_in_records(tmp_path: Path, kind: pa.DataType, name: str) -> None:
    rows = pa.array([{"bytes": bytes([row])} for row in range(4)], kind)
    source = read(tmp_path, {"label": HALF, name: rows})
    assert [source.read(row) for row in range(4)] == [b"\0", b"\1", b"\2", b"\3"]


@pytest.mark.parametrize("kind", [pa.binary(), pa.large_binary(), pa.dictionary(pa.int32(), pa.binary())])
def test_images_as_bytes(tmp_path: Path, kind: pa.DataType) -> None:
    rows = pa.array([b"a", b"b", b"a", None], pa.binary()).cast(kind)
    source = read(tmp_path, {"image": rows, "label": HALF})
    assert source.read(2) == b"a"
    with pytest.raises(OSError, match="the row holds no image bytes"):
        source.read(3)


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        (HALF, ["0", "1", "0", "1"]),
        (pa.array([0.0, 1.0, 0.0, 10.0]), ["0", "1", "0", "10"]),
        (pa.array([True, False, True, False]), ["True", "False", "True", "False"]),
        (pa.array(["cat", "dog", "cat ", "dog"]), ["cat", "dog", "cat", "dog"]),
        (pa.array(["cat", "dog", "cat", "dog"]).dictionary_encode(), ["cat", "dog", "cat", "dog"]),
        (pa.array([Decimal(1), Decimal(2), Decimal(1), Decimal(2)]), ["1", "2", "1", "2"]),
    ],
)
def test_labels_of_several_types(tmp_path: Path, column: Any, expected: list[str]) -> None:
    assert labels(read(tmp_path, {"image": IMAGES, "label": column})) == expected


@pytest.mark.parametrize(
    ("column", "why"),
    [
        (pa.array([[0], [1], [0, 1], []]), r"has lists in the column 'label': expected one label a row"),
        (pa.array([{"name": "cat"}] * 4), r"has records in the column 'label': expected one label a row"),
        (pa.array([b"cat"] * 4), r"has bytes in the column 'label': expected one label a row"),
        (pa.array([0.4, 1.0, 1.6, 0.0]), r"has the label 0.4 in 'label': expected classes, not fractions"),
        (pa.array([float("inf"), 1.0, 1.0, 0.0]), r"has the label inf in 'label': expected classes, not fractions"),
        (pa.array([0.0, 1.0, float("nan"), None]), r"has no label in 2 of 4 rows"),
    ],
)
def test_labels_that_are_no_classes(tmp_path: Path, column: Any, why: str) -> None:
    with pytest.raises(SourceError, match=why):
        read(tmp_path, {"image": IMAGES, "label": column}, asked="label=label,path=image")


@pytest.mark.parametrize("names", [["cat", "dog"], {"0": "cat", "1": "dog"}])
@pytest.mark.parametrize("column", [HALF, pa.array([False, True, False, True]), pa.array([0.0, 1.0, 0.0, 1.0])])
def test_names_that_the_metadata_gives(tmp_path: Path, names: Any, column: Any) -> None:
    features = {"breed": {"names": names, "_type": "ClassLabel"}, "pixels": {"_type": "Image"}}
    source = read(tmp_path, {"pixels": IMAGES, "mask": IMAGES, "breed": column, "label": HALF}, features)
    assert labels(source) == ["cat", "dog", "cat", "dog"]
    assert source.layout == "train, image in pixels, label in breed, 1 file, 2 classes"


def test_two_columns_that_may_be_it(tmp_path: Path) -> None:
    columns = {"image": IMAGES, "fine_label": HALF, "coarse_label": pa.array([0, 0, 1, 1])}
    with pytest.raises(SourceError, match=r"has fine_label, coarse_label, .* the label: give `columns=label=fine_l"):
        read(tmp_path, columns)
    assert labels(read(tmp_path, columns, asked="label=coarse_label")) == ["0", "0", "1", "1"]
    with pytest.raises(SourceError, match=r"has image, img, each of which may be the image: give `columns=path=image`"):
        read(tmp_path, {"image": IMAGES, "img": IMAGES, "label": HALF})


def test_a_column_of_splits_is_not_read(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"`columns=split=fold` names the column of the split, but .* file"):
        read(tmp_path, {"image": IMAGES, "label": HALF, "fold": HALF}, asked="split=fold")


def test_a_column_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"has the columns image, label: expected 'breed', as `columns` says"):
        read(tmp_path, {"image": IMAGES, "label": HALF}, asked="label=breed")


def test_several_images_a_row(tmp_path: Path) -> None:
    rows = pa.array([[{"bytes": b"a"}]] * 4)
    with pytest.raises(SourceError, match=r"has several images a row in 'image': expected one image and one label"):
        read(tmp_path, {"image": rows, "label": HALF})


@pytest.mark.parametrize("columns", [{}, {"label": pa.nulls(4)}, {"breed": pa.array(["a", "b", "a", "b"])}])
def test_no_labels(tmp_path: Path, columns: dict[str, Any]) -> None:
    source = read(tmp_path, {"image": IMAGES, **columns})
    assert source.classes == ()
    assert "no labels" in source.layout


def test_a_column_that_may_be_the_label_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    read(tmp_path, {"image": IMAGES, "breed": pa.array(["a", "b", "a", "b"])})
    assert "no column is a label by its name: give `columns=label=breed` if that is one" in caplog.text


@pytest.mark.parametrize("name", ["image", "content", "img_bytes"])
def test_bytes_beside_names_of_files_are_the_images_where_they_are_called_so(tmp_path: Path, name: str) -> None:
    rows: dict[str, Any] = {
        name: pa.array([bytes([row]) for row in range(40)]),
        "filename": [f"{row}.png" for row in range(40)],
    }
    pq.write_table(pa.table({**rows, "label": [0, 1] * 20}), tmp_path / "some.parquet")
    assert open_source(str(tmp_path / "some.parquet")).layout.endswith("1 file, 2 classes")
