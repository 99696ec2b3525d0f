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


def test_hub_folder_with_missing_labels(tmp_path: Path) -> None:
    write_hub(tmp_path / "train.parquet", [0, 1, 0, 1])
    write_hub(tmp_path / "test.parquet", [-1, -1])
    with pytest.raises(SourceError, match=r"test.parquet has no label in 2 of 2 rows"):
        opened(tmp_path)


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
