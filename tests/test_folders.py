from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from features.errors import SourceError
from features.sources.options import SourceOptions
from features.sources.registry import open_source
from features.sources.source import Source
from tests.conftest import write_images


def opened(dataset: object, data_dir: Path = Path("absent")) -> Source:
    return open_source(str(dataset), SourceOptions(data_dir=data_dir))


def counts(source: Source) -> dict[str, int]:
    return {str(split): int(count) for split, count in source.items["split"].value_counts().items()}


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


def test_hidden_files_and_texts_are_left_out_and_others_tried(photos: Path) -> None:
    for name in (".DS_Store", "notes.txt", "photo.unknown", "photo"):
        (photos / "red" / name).write_bytes(b"x")
    keys = set(opened(photos).items["key"])
    assert {"red/photo.unknown", "red/photo"} <= keys
    assert keys.isdisjoint({"red/.DS_Store", "red/notes.txt"})


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
        open_source(str(photos), SourceOptions(train_limit=3))


def test_a_train_folder_without_class_folders(split_photos: Path) -> None:
    for file in (split_photos / "train").glob("*/*"):
        file.rename(split_photos / "train" / f"{file.parent.name}-{file.name}")
    with pytest.raises(SourceError, match=r"has test, train, val but no train folder with class folders in it"):
        opened(split_photos)


def test_loose_files_are_said(photos: Path, caplog: pytest.LogCaptureFixture) -> None:
    (photos / "loose.png").write_bytes(b"x")
    opened(photos)
    assert "1 file in" in caplog.text
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
