from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from features.errors import TableError
from features.extract import extract, table_specs
from features.sources.registry import open_source
from features.table import shard
from features.table.table import FeatureTable
from features.trunk.trunk import Trunk
from tests.conftest import make_tiny_trunk, write_images


def make_table(photos: Path, folder: Path, *, trunk: Trunk | None = None, max_bad: float = 0.01) -> FeatureTable:
    source = open_source(str(photos), data_dir=Path("absent"))
    done = extract(source, trunk or make_tiny_trunk(), folder, max_bad=max_bad, on_images=lambda _: None)
    return done.tables[0]


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shard, "LEAST_IMAGES", 10)
    monkeypatch.setattr(shard, "LIKELY_IMAGES", 15)
    monkeypatch.setattr(shard, "MOST_IMAGES", 40)


@pytest.fixture
def table(photos: Path, tmp_path: Path) -> FeatureTable:
    return make_table(photos, tmp_path / "table")


def test_schema_is_the_contract(table: FeatureTable) -> None:
    schema = pq.read_schema(table.folder / "part-00000.parquet")
    assert schema.names == ["key", "split", "label", "sha256", "features"]
    assert schema.field("features").type == pa.list_(pa.field("item", pa.float16(), nullable=False), 128)
    assert not any(field.nullable for field in schema)
    about = json.loads(schema.metadata[b"treehead"])
    assert about["trunk"]["backbone"] == "tiny"
    assert about["classes"] == ["blue", "green", "red"]
    assert about["transfer_learning"] is False
    column = pq.ParquetFile(table.folder / "part-00000.parquet").metadata.row_group(0).column(4)
    assert column.compression == "ZSTD"


def test_rows_are_what_the_trunk_says_of_each_image(table: FeatureTable, photos: Path) -> None:
    trunk = make_tiny_trunk()
    for split in ("train", "validation", "test"):
        rows = table.read(split)
        assert rows.x.dtype == np.float32
        assert rows.y.dtype == np.int32
        assert len(rows) == table.rows[split] > 0
        for key, x, label in zip(rows.keys, rows.x, rows.y, strict=True):
            image = trunk.prepare(torch.from_numpy(np.array(Image.open(photos / key))).permute(2, 0, 1))
            assert x == pytest.approx(trunk.forward(image[None])[0][0], abs=2e-3)
            assert table.spec.classes[label] == Path(key).parent.name


def test_index_has_each_images_own_hash(table: FeatureTable, photos: Path) -> None:
    hashes = table.index().set_index("key")["sha256"].to_dict()
    assert len(hashes) == 120
    assert hashes == {key: hashlib.sha256((photos / str(key)).read_bytes()).hexdigest() for key in hashes}


def test_batches_and_pandas_agree_with_read(table: FeatureTable) -> None:
    whole, batches = table.read("train"), list(table.batches("train", size=7))
    assert max(len(batch) for batch in batches) <= 7
    assert np.array_equal(np.concatenate([batch.x for batch in batches]), whole.x)
    frame = table.to_pandas("train")
    assert frame["key"].tolist() == whole.keys.tolist()
    assert np.array_equal(frame.filter(regex=r"^f\d+$").to_numpy(), whole.x)
    assert len(table.to_pandas()) == 120


def test_the_name_of_the_weights_file_makes_no_other_table(photos: Path, tiny_trunk: Trunk) -> None:
    source = open_source(str(photos), data_dir=Path("absent"))
    renamed = make_tiny_trunk()
    renamed.specs = (replace(renamed.spec, weights="renamed.pth"),)
    assert table_specs(source, renamed)[0].folder_name == table_specs(source, tiny_trunk)[0].folder_name


def test_other_settings_have_another_name(photos: Path, tiny_trunk: Trunk) -> None:
    def name(trunk: Trunk, **options: Any) -> str:
        (spec,) = table_specs(open_source(str(photos), data_dir=Path("absent"), **options), trunk)
        return spec.folder_name

    names = [name(tiny_trunk), name(make_tiny_trunk("other")), name(tiny_trunk, train_limit=20)]
    names.append(name(tiny_trunk, train_limit=20, seed=1))
    write_images(photos / "red", "red", 1, start=99)
    assert len({*names, name(tiny_trunk)}) == 5


def test_test_images_that_are_training_images_are_counted(split_photos: Path, tmp_path: Path) -> None:
    assert make_table(split_photos, tmp_path / "before").test_duplicates() == 0
    copied = (split_photos / "train/red/000.png").read_bytes()
    (split_photos / "test/red/copy.png").write_bytes(copied)
    assert make_table(split_photos, tmp_path / "after").test_duplicates() == 1


def test_a_folder_without_manifest_is_no_table(table: FeatureTable) -> None:
    (table.folder / "manifest.json").unlink()
    with pytest.raises(TableError, match=r"manifest.json is missing, so .* is no complete feature table: run features"):
        FeatureTable.open(table.folder)


def test_a_manifest_cut_short(table: FeatureTable) -> None:
    manifest = table.folder / "manifest.json"
    manifest.write_bytes(manifest.read_bytes()[:-40])
    with pytest.raises(TableError, match=r"manifest.json is cut short or damaged: delete it and run again"):
        FeatureTable.open(table.folder)


@pytest.mark.parametrize("content", ["{}", "[]", '{"spec": {}}'])
def test_a_manifest_of_another_format(table: FeatureTable, content: str) -> None:
    (table.folder / "manifest.json").write_text(content)
    with pytest.raises(TableError, match=r"manifest.json is"):
        FeatureTable.open(table.folder)


def test_a_table_from_other_settings(table: FeatureTable) -> None:
    with pytest.raises(TableError, match=r"was made with other settings .*expected 00000000"):
        FeatureTable.open(table.folder, "0" * 64)
    manifest = table.folder / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"dim": 128', '"dim": 64'))
    with pytest.raises(TableError, match=r"was made with other settings"):
        FeatureTable.open(table.folder)


def test_a_shard_cut_short(table: FeatureTable) -> None:
    shard = table.folder / "part-00001.parquet"
    shard.write_bytes(shard.read_bytes()[:-1])
    with pytest.raises(TableError, match=r"part-00001.parquet has \d+ bytes, expected \d+: delete it"):
        FeatureTable.open(table.folder)
