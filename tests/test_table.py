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
from features.sources.options import SourceOptions
from features.sources.registry import open_source
from features.storage import FileRecord, digest, sealed, write_json
from features.table import shard
from features.table.manifest import MANIFEST, SEAL
from features.table.shard import IMAGE_COLUMNS, LISTED
from features.table.table import FeatureTable
from features.trunk.trunk import Trunk
from tests.conftest import make_tiny_trunk, write_images


def make_table(photos: Path, folder: Path, *, trunk: Trunk | None = None, max_bad: float = 0.01) -> FeatureTable:
    source = open_source(str(photos))
    done = extract(source, [trunk or make_tiny_trunk()], folder, max_bad=max_bad, on_images=lambda _: None)
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
    assert schema.names == [*LISTED, *IMAGE_COLUMNS, "features"]
    assert schema.field("features").type == pa.list_(pa.field("item", pa.float16(), nullable=False), 128)
    assert [field.name for field in schema if field.nullable] == ["group"]
    about = json.loads(schema.metadata[b"treehead"])
    assert about["trunk"]["backbone"] == "tiny"
    assert about["classes"] == ["blue", "green", "red"]
    assert about["transfer_learning"] is False
    column = (
        pq.ParquetFile(table.folder / "part-00000.parquet").metadata.row_group(0).column(schema.names.index("features"))
    )
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
    source = open_source(str(photos))
    renamed = make_tiny_trunk()
    renamed.specs = (replace(renamed.spec, weights="renamed.pth"),)
    assert table_specs(source, renamed)[0].folder_name == table_specs(source, tiny_trunk)[0].folder_name


def test_other_settings_have_another_name(photos: Path, tiny_trunk: Trunk) -> None:
    def name(trunk: Trunk, train_limit: int | None = None, seed: int = 0) -> str:
        (spec,) = table_specs(open_source(str(photos), SourceOptions(train_limit=train_limit), seed=seed), trunk)
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
    with pytest.raises(TableError, match=r"manifest.json is cut short or damaged \(.*\): delete it and run again"):
        FeatureTable.open(table.folder)


@pytest.mark.parametrize("content", ["{}", "[]", '{"spec": {}}'])
def test_a_manifest_of_another_format(table: FeatureTable, content: str) -> None:
    (table.folder / "manifest.json").write_text(content)
    with pytest.raises(TableError, match=r"manifest.json is"):
        FeatureTable.open(table.folder)


def test_a_table_from_other_settings(table: FeatureTable) -> None:
    with pytest.raises(TableError, match=r"was made with other settings .*expected 00000000"):
        FeatureTable.open(table.folder, "0" * 64)
    edit_manifest(table.folder, fingerprint="1" * 64)
    with pytest.raises(TableError, match=r"was made with other settings \(fingerprint 11111111"):
        FeatureTable.open(table.folder)


def edit_manifest(folder: Path, **content: Any) -> None:
    """Change a manifest, and seal it again."""
    manifest = json.loads((folder / MANIFEST).read_text())
    del manifest[SEAL]
    write_json(folder / MANIFEST, sealed({**manifest, **content}, SEAL))


def test_a_manifest_that_was_changed(table: FeatureTable) -> None:
    manifest = table.folder / MANIFEST
    manifest.write_text(manifest.read_text().replace('"errors": 0', '"errors": 1'))
    with pytest.raises(TableError, match=r"damaged \(it has been changed since it was written: its SHA-256 differs\)"):
        FeatureTable.open(table.folder)


@pytest.mark.parametrize("name", ["../part-00000.parquet", "/part-00000.parquet", "a/part-00000.parquet", "part-0", ""])
def test_a_manifest_that_names_a_file_elsewhere(name: str, table: FeatureTable) -> None:
    shards = json.loads((table.folder / MANIFEST).read_text())["shards"]
    edit_manifest(table.folder, shards={name: shards["part-00000.parquet"]})
    with pytest.raises(TableError, match=r"manifest.json names '.*', expected part-00000.parquet …: delete it"):
        FeatureTable.open(table.folder)


@pytest.mark.parametrize("how", ["read", "index", "labels", "batches", "to_pandas"])
def test_a_shard_with_another_bit_is_refused_when_it_is_first_read(how: str, table: FeatureTable) -> None:
    damage(table.folder / "part-00000.parquet")
    again = FeatureTable.open(table.folder)
    with pytest.raises(TableError, match=r"part-00000.parquet is not the file that manifest.json names .*run features"):
        list(getattr(again, how)(*([] if how in ("index", "to_pandas") else ["train"])))


def test_a_ledger_with_another_bit_is_refused(table: FeatureTable) -> None:
    damage(table.folder / "errors.parquet")
    with pytest.raises(TableError, match=r"errors.parquet is not the file that manifest.json names"):
        FeatureTable.open(table.folder).ledger()


def test_a_shard_is_checked_once(table: FeatureTable, monkeypatch: pytest.MonkeyPatch) -> None:
    checked: list[str] = []

    def fits(record: FileRecord, path: Path) -> bool:
        checked.append(path.name)
        return True

    monkeypatch.setattr(FileRecord, "fits", fits)
    again = FeatureTable.open(table.folder)
    for _ in range(2):
        again.read("train")
        again.test_duplicates()
    assert checked == [path.name for path in table.shards]


def test_where_a_link_leads_does_not_matter_what_is_there_does(table: FeatureTable, tmp_path: Path) -> None:
    path = table.folder / "part-00000.parquet"
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    assert len(FeatureTable.open(table.folder).read("train")) == table.rows["train"]
    damage(tmp_path / "elsewhere")
    with pytest.raises(TableError, match=r"is not the file that manifest.json names"):
        FeatureTable.open(table.folder).read("train")


def damage(path: Path) -> None:
    """Flip a bit in the middle of a file."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)


def as_by_the_first_release(folder: Path) -> None:
    """Rewrite a manifest as 0.1.0 wrote it."""
    manifest = json.loads((folder / MANIFEST).read_text())
    del manifest[SEAL], manifest["ledger"]
    manifest["shards"] = {name: record["bytes"] for name, record in manifest["shards"].items()}
    write_json(folder / MANIFEST, manifest)


def test_a_table_of_the_first_release_is_closed_anew_and_stays_what_it_was(photos: Path, table: FeatureTable) -> None:
    before = contents(table.folder)
    as_by_the_first_release(table.folder)
    identity = digest(json.loads((table.folder / MANIFEST).read_text()))
    with pytest.raises(TableError, match=r"has no SHA-256 of its shards, as 0.1.0 wrote it: run features again, once"):
        FeatureTable.open(table.folder)
    again = make_table(photos, table.folder.parent)
    assert contents(table.folder) == before
    assert again.identity == table.identity == identity


def test_a_shard_cut_short(table: FeatureTable) -> None:
    shard = table.folder / "part-00001.parquet"
    shard.write_bytes(shard.read_bytes()[:-1])
    with pytest.raises(TableError, match=r"part-00001.parquet has \d+ bytes, expected \d+: run features again, which"):
        FeatureTable.open(table.folder)
