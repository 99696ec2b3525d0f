from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from features.errors import SourceError
from features.sources.options import SourceOptions
from features.sources.registry import open_source
from features.sources.source import Source


def opened(dataset: object, data_dir: Path = Path("absent")) -> Source:
    return open_source(str(dataset), SourceOptions(data_dir=data_dir))


def counts(source: Source) -> dict[str, int]:
    return {str(split): int(count) for split, count in source.items["split"].value_counts().items()}


def png(value: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (4, 4), (value, 0, 0)).save(buffer, "png")
    return buffer.getvalue()


def write_hub(path: Path, labels: list[int], names: list[str] | None = None) -> None:
    image = pa.array([{"bytes": png(row), "path": None} for row in range(len(labels))])
    table = pa.table({"image": image, "label": pa.array(labels, pa.int64())})
    if names:
        about = {"info": {"features": {"label": {"names": names, "_type": "ClassLabel"}}}}
        table = table.replace_schema_metadata({"huggingface": json.dumps(about)})
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, row_group_size=3)


def test_hub_folder(tmp_path: Path) -> None:
    write_hub(tmp_path / "data/train-00000-of-00002.parquet", [1, 0] * 10, ["cat", "dog"])
    write_hub(tmp_path / "data/train-00001-of-00002.parquet", [1, 0] * 10, ["cat", "dog"])
    write_hub(tmp_path / "data/validation-00000-of-00001.parquet", [0, 1], ["cat", "dog"])
    source = opened(tmp_path)
    assert source.classes == ("cat", "dog")
    assert counts(source)["validation"] == 2
    key = "data/train-00001-of-00002.parquet/0000007"
    row = source.items.index[source.items["key"] == key][0]
    assert source.read(row) == png(7)
    assert source.items.at[row, "label"] == 0


def test_hub_folder_with_a_class_name_given_twice(tmp_path: Path) -> None:
    write_hub(tmp_path / "train.parquet", [0, 1, 2] * 20, ["crane", "crane", "dog"])
    assert opened(tmp_path).classes == ("crane (0)", "crane (1)", "dog")


def test_class_names_that_no_image_bears_are_not_numbered(tmp_path: Path) -> None:
    write_hub(tmp_path / "train.parquet", [3, 1] * 30, ["ant", "cat", "cow", "dog"])
    source = opened(tmp_path)
    assert source.classes == ("cat", "dog")
    assert sorted(source.items["label"].unique()) == [0, 1]
    assert source.items["label"].dtype == np.int32
    assert source.items.at[0, "label"] == 1


def test_rows_without_labels_among_others(tmp_path: Path) -> None:
    write_hub(tmp_path / "train.parquet", [0, 1, 0, -1])
    with pytest.raises(SourceError, match=r"train.parquet has no label in 1 of 4 rows: remove the file or label its"):
        opened(tmp_path)


def test_a_split_whose_labels_are_kept_back_is_left_out_and_said(tmp_path: Path) -> None:
    write_hub(tmp_path / "train.parquet", [0, 1] * 20)
    write_hub(tmp_path / "test.parquet", [-1, -1])
    source = opened(tmp_path)
    assert not source.items["key"].str.startswith("test").any()
    assert source.layout.endswith("; 2 images of test without labels left out")


def test_a_set_without_labels(tmp_path: Path) -> None:
    write_hub(tmp_path / "train.parquet", [-1] * 5)
    with pytest.raises(SourceError, match=r"has no labels: a classifier learns from"):
        opened(tmp_path)
    source = open_source(str(tmp_path), unlabelled=True)
    assert source.classes == ()
    assert set(source.items["label"]) == {-1}


def test_names_in_two_forms_are_one_class(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_hub(tmp_path / "train.parquet", [0, 1, 2] * 20, ["caf\u00e9", "cafe\u0301", "tea"])
    assert opened(tmp_path).classes == ("caf\u00e9", "tea")
    assert "one class" in caplog.text


def test_a_file_that_claims_more_rows_than_it_has_bytes(tmp_path: Path) -> None:
    table = pa.table({"image": pa.nulls(200_000, pa.binary()), "label": pa.repeat(0, 200_000)})
    pq.write_table(table, tmp_path / "train.parquet")
    with pytest.raises(SourceError, match=r"claims 200,000 rows in [\d,]+ bytes: fetch the file again"):
        opened(tmp_path)


def test_a_list_beside_class_folders_is_no_hub_set(photos: Path) -> None:
    pq.write_table(pa.table({"path": ["a"], "label": ["b"]}), photos / "list.parquet")
    source = opened(photos)
    assert source.classes == ("blue", "green", "red")
    assert source.layout.endswith("; 1 other file left out")


def test_listing_rows_is_told(tmp_path: Path) -> None:
    write_hub(tmp_path / "train.parquet", [0, 1] * 20)
    told: list[int] = []
    open_source(str(tmp_path), on_listed=told.append)
    assert sum(told) == 40


def test_hub_folder_of_another_layout(tmp_path: Path) -> None:
    pq.write_table(pa.table({"pixels": [1], "label": [0]}), tmp_path / "train.parquet")
    with pytest.raises(SourceError, match=r"has the columns pixels, label: expected image \(bytes, path\) and label"):
        opened(tmp_path)


def test_hub_files_of_two_sets(tmp_path: Path) -> None:
    write_hub(tmp_path / "train.parquet", [0, 1], ["cat", "dog"])
    write_hub(tmp_path / "test.parquet", [0, 1], ["dog", "cat"])
    with pytest.raises(SourceError, match=r"names other classes than"):
        opened(tmp_path)


def test_hub_label_without_a_name(tmp_path: Path) -> None:
    write_hub(tmp_path / "train.parquet", [0, 1, 7], ["cat", "dog"])
    with pytest.raises(SourceError, match=r"has the label 7, but names 2 classes"):
        opened(tmp_path)


def test_hub_file_without_a_split_in_its_name(tmp_path: Path) -> None:
    write_hub(tmp_path / "0001.parquet", [0, 1])
    with pytest.raises(SourceError, match=r"does not begin with its split"):
        opened(tmp_path)
