from __future__ import annotations

import gzip
import io
import json
import shutil
import struct
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from torchvision import datasets

from features.errors import SourceError
from features.sources.registry import open_source
from features.sources.source import Source, name_classes
from tests.conftest import write_images


def opened(dataset: object, data_dir: Path = Path("absent")) -> Source:
    return open_source(str(dataset), data_dir=data_dir)


def counts(source: Source) -> dict[str, int]:
    return {str(split): int(count) for split, count in source.items["split"].value_counts().items()}


def test_class_names_that_are_numbers_sort_as_numbers() -> None:
    assert name_classes(["10", "9", "10"]) == (("9", "10"), [1, 0, 1])
    assert name_classes(["b", "10", "9"]) == (("10", "9", "b"), [2, 0, 1])


def test_digits_have_a_fixed_stratified_split() -> None:
    source = opened("digits")
    assert counts(source) == {"train": 1077, "validation": 270, "test": 450}
    shares = source.items.groupby("split")["label"].value_counts(normalize=True)
    assert shares.min() > 0.09
    assert shares.max() < 0.11
    first = source.read(0)
    assert isinstance(first, np.ndarray)
    assert first.shape == (8, 8)
    assert first.dtype == np.uint8
    assert first.max() == 239


def test_unknown_name_lists_the_choices() -> None:
    with pytest.raises(SourceError, match=r"unknown data set 'mnits': expected a folder.*digits, mnist.*cifar10"):
        opened("mnits")


# folders


def test_folder_with_splits(split_photos: Path) -> None:
    source = opened(split_photos)
    assert source.classes == ("blue", "green", "red")
    assert counts(source) == {"train": 36, "validation": 12, "test": 18}
    row = source.items.index[source.items["key"] == "val/green/100.png"][0]
    assert source.read(row) == (split_photos / "val/green/100.png").read_bytes()


def test_folder_without_splits_keeps_old_images_where_they_were(photos: Path) -> None:
    before = opened(photos).items.set_index("key")["split"]
    write_images(photos / "red", "red", 20, start=500)
    after = opened(photos).items.set_index("key")["split"]
    assert set(before) == {"train", "validation", "test"}
    assert after[before.index].equals(before)


def test_changed_image_changes_the_digest(photos: Path) -> None:
    before = opened(photos).digest()
    assert opened(photos).digest() == before
    write_images(photos / "red", "blue", 1)
    assert opened(photos).digest() != before


def test_hidden_files_are_passed_over_and_others_listed(photos: Path) -> None:
    (photos / "red" / ".DS_Store").write_bytes(b"x")
    (photos / "red" / "notes.txt").write_bytes(b"x")
    keys = set(opened(photos).items["key"])
    assert "red/notes.txt" in keys
    assert "red/.DS_Store" not in keys


def test_folder_without_images(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"has no class folders: expected a folder of images for each class"):
        opened(tmp_path)


def test_empty_class_folder(photos: Path) -> None:
    (photos / "yellow").mkdir()
    with pytest.raises(SourceError, match=r"yellow is empty: put images into it or remove it"):
        opened(photos)


def test_one_class_only(tmp_path: Path) -> None:
    write_images(tmp_path / "red", "red", 3)
    with pytest.raises(SourceError, match=r"holds one class only \('red'\)"):
        opened(tmp_path)


def test_a_class_without_training_images(split_photos: Path) -> None:
    shutil.rmtree(split_photos / "train/blue")
    with pytest.raises(
        SourceError, match=r"has no training image of 1 of its 3 classes \(blue\): expected one of each at least, add"
    ):
        opened(split_photos)


def test_a_train_limit_below_the_number_of_classes(photos: Path) -> None:
    write_images(photos / "yellow", "red", 1)
    with pytest.raises(SourceError, match=r"no training image of 1 of its 4 classes \(\w+\): .* raise `train_limit`"):
        open_source(str(photos), data_dir=Path("absent"), train_limit=3)


@pytest.mark.parametrize("missing", ["train", "val"])
def test_a_split_without_class_folders(split_photos: Path, missing: str) -> None:
    for folder in (split_photos / missing).iterdir():
        (folder / "000.png").unlink(missing_ok=True)
        for file in folder.iterdir():
            file.rename(split_photos / missing / f"{folder.name}-{file.name}")
        folder.rmdir()
    with pytest.raises(SourceError, match=r"no train folder with class folders|val has no class folders"):
        opened(split_photos)


def test_a_manifest_without_training_images(tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text("path,label,split\na.png,x,test\nb.png,y,test\n")
    with pytest.raises(SourceError, match=r"holds no training images"):
        opened(tmp_path / "list.csv")


def test_loose_files_are_said(photos: Path, caplog: pytest.LogCaptureFixture) -> None:
    (photos / "loose.png").write_bytes(b"x")
    opened(photos)
    assert "1 files in" in caplog.text
    assert "loose.png" in caplog.text


def test_a_link_that_leads_back_up_is_followed_once(photos: Path) -> None:
    (photos / "red" / "self").symlink_to(photos / "red")
    (photos / "red" / "up").symlink_to(photos)
    (photos / "all").symlink_to(photos)
    source = opened(photos)
    assert len(source.items) == 120
    assert source.classes == ("blue", "green", "red")


def test_a_name_that_is_not_utf8(photos: Path) -> None:
    Path(photos, "red", "\udcff.png").write_bytes(b"x")
    with pytest.raises(SourceError, match=r"is no UTF-8 name: rename the file"):
        opened(photos)


def test_a_manifest_with_a_field_too_many(tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text("path,label\na.png,x,train\nb.png,y,test\n")
    with pytest.raises(SourceError, match=r"cannot read .*list.csv"):
        opened(tmp_path / "list.csv")


def test_a_stranger_beside_train(split_photos: Path) -> None:
    (split_photos / "extra").mkdir()
    with pytest.raises(SourceError, match=r"has 'extra' beside its train folder"):
        opened(split_photos)


# manifests


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
    assert source.read(source.items.index[0])[:4] == b"\x89PNG"


def test_manifest_without_splits(photos: Path) -> None:
    write_manifest(photos.parent / "list.csv", photos)
    assert set(counts(opened(photos.parent / "list.csv"))) == {"train", "validation", "test"}


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
    (tmp_path / "list.csv").write_text("file,label\na.png,x\n")
    with pytest.raises(SourceError, match=r"has the columns file, label: expected path, label and perhaps split"):
        opened(tmp_path / "list.csv")


def test_manifest_with_an_unknown_split(tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text("path,label,split\na.png,x,train\nb.png,y,holdout\n")
    with pytest.raises(SourceError, match=r"has the split 'holdout': expected train, validation or test"):
        opened(tmp_path / "list.csv")


def test_manifest_that_lists_an_image_twice(tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text("path,label\na.png,x\na.png,y\n")
    with pytest.raises(SourceError, match=r"lists 'a.png' more than once"):
        opened(tmp_path / "list.csv")


# Parquet files in the layout of the hub


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


# sets known by name


def write_idx(path: Path, values: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> None:
    header = struct.pack(f">HBB{values.ndim}I", 0, 8, values.ndim, *values.shape)
    content = header + values.tobytes()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_mnist_is_read_packed_and_unpacked_and_never_written_to(tmp_path: Path, suffix: str) -> None:
    raw = tmp_path / "MNIST" / "raw"
    pixels = np.arange(60 * 28 * 28, dtype=np.uint32).reshape(60, 28, 28).astype(np.uint8)
    labels = (np.arange(60) % 10).astype(np.uint8)
    for part, end in (("train", 60), ("t10k", 20)):
        write_idx(raw / f"{part}-images-idx3-ubyte{suffix}", pixels[:end])
        write_idx(raw / f"{part}-labels-idx1-ubyte{suffix}", labels[:end])
    before = sorted(tmp_path.rglob("*"))
    source = opened("mnist", tmp_path)
    assert sorted(tmp_path.rglob("*")) == before
    assert counts(source)["test"] == 20
    row = source.items.index[source.items["key"] == "train/0000017"][0]
    assert np.array_equal(source.read(row), pixels[17])
    assert source.items.at[row, "label"] == 7


def test_mnist_absent_and_offline_names_the_missing_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.MNIST, "mirrors", ["file:///nowhere/"])
    with pytest.raises(
        SourceError, match=r"missing: .*MNIST/raw/train-images-idx3-ubyte.gz.*t10k-labels-idx1-ubyte.gz"
    ):
        opened("mnist", tmp_path / "data")
    assert not (tmp_path / "data").exists()


def test_mnist_cut_short(tmp_path: Path) -> None:
    raw = tmp_path / "MNIST" / "raw"
    for name, _ in datasets.MNIST.resources:
        write_idx(raw / name, np.zeros((10, 28, 28), np.uint8))
        (raw / name).write_bytes((raw / name).read_bytes()[:-9])
    with pytest.raises(SourceError, match=r"cannot read .*train-images-idx3-ubyte.gz .*: fetch the file again"):
        opened("mnist", tmp_path)


def test_torchvision_set_by_name(tmp_path: Path) -> None:
    for name, colour in (("Forest", "green"), ("River", "blue")):
        write_images(tmp_path / "eurosat" / "2750" / name, colour, 30)
    source = opened("EuroSAT", tmp_path)
    assert source.classes == ("Forest", "River")
    pixels = source.read(source.items.index[0])
    assert isinstance(pixels, np.ndarray)
    assert pixels.shape == (20, 24, 3)


def test_torchvision_set_that_cannot_be_had(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"imagenet is not in .* and cannot be downloaded"):
        opened("imagenet", tmp_path)
