from __future__ import annotations

import gzip
import inspect
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torchvision import datasets

from features.errors import SourceError
from features.extract import extract
from features.sources.decode import decode
from features.sources.named import FILES, TORCHVISION
from features.sources.options import SourceOptions
from features.sources.registry import open_source
from features.sources.source import Source
from tests.conftest import make_tiny_trunk, write_images


def opened(dataset: object, data_dir: Path = Path("absent")) -> Source:
    return open_source(str(dataset), SourceOptions(data_dir=data_dir))


def counts(source: Source) -> dict[str, int]:
    return {str(split): int(count) for split, count in source.items["split"].value_counts().items()}


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
    payload = source.read(source.items.index[0])
    assert isinstance(payload, bytes)  # of the file, so that it is decoded as any other
    assert decode(payload).shape == (20, 24, 3)


def write_pets(root: Path) -> Path:
    """Forty pets in torchvision's layout; returns the folder of their pictures."""
    base = root / "oxford-iiit-pet"
    write_images(base / "images", "red", 40)
    lines = [f"{n:03d} {1 + n % 2} 1 1" for n in range(40)]
    (base / "annotations").mkdir()
    (base / "annotations/trainval.txt").write_text("\n".join(lines[:30]))
    (base / "annotations/test.txt").write_text("\n".join(lines[30:]))
    for picture in (base / "images").iterdir():
        picture.rename(picture.with_suffix(".jpg"))
    return base / "images"


def test_a_damaged_file_of_a_named_set_is_a_line_of_the_ledger(tmp_path: Path) -> None:
    pictures = write_pets(tmp_path)
    (pictures / "000.jpg").write_bytes((pictures / "000.jpg").read_bytes()[:60])
    (pictures / "001.jpg").write_bytes(b"")
    (pictures / "002.jpg").unlink()
    source = opened("oxfordiiitpet", tmp_path)
    table = extract(source, [make_tiny_trunk()], tmp_path / "out", max_bad=0.5, on_images=lambda _: None).tables[0]
    reasons = dict(table.ledger()[["key", "reason"]].to_numpy().tolist())
    assert reasons["train/0000000"].startswith("cut short")
    assert reasons["train/0000001"] == "empty file"
    assert reasons["train/0000002"].startswith("unreadable: No such file")
    assert sum(table.rows.values()) == 37


def test_a_file_of_a_named_set_that_changes_changes_the_set(tmp_path: Path) -> None:
    pictures = write_pets(tmp_path)
    before = opened("oxfordiiitpet", tmp_path).digest()
    assert opened("oxfordiiitpet", tmp_path).digest() == before
    (pictures / "005.jpg").write_bytes((pictures / "006.jpg").read_bytes() + b"more")
    assert opened("oxfordiiitpet", tmp_path).digest() != before


@pytest.mark.parametrize("name", TORCHVISION)
def test_where_each_set_has_its_files_is_known(name: str) -> None:
    """A set whose images are opened from files when they are asked for has a row in FILES."""
    kind, _ = TORCHVISION[name]
    assert isinstance(kind, type)
    found: Any = kind
    lookup = inspect.getsource(found.__getitem__)
    opens = "Image.open(" in lookup or "loader(" in lookup
    assert opens == (name in FILES)


@pytest.mark.parametrize(
    ("images", "labels", "largest", "reason"),
    [
        (60, 59, 9, r"has 60 train images, but 59 labels: fetch its files again"),
        (60, 60, 11, r"has the train label 11, expected 0 to 9: fetch its files again"),
    ],
)
def test_mnist_files_that_do_not_fit(tmp_path: Path, images: int, labels: int, largest: int, reason: str) -> None:
    raw = tmp_path / "MNIST" / "raw"
    for part in ("train", "t10k"):
        write_idx(raw / f"{part}-images-idx3-ubyte", np.zeros((images, 28, 28), np.uint8))
        write_idx(raw / f"{part}-labels-idx1-ubyte", (np.arange(labels) % (largest + 1)).astype(np.uint8))
    with pytest.raises(SourceError, match=reason):
        opened("mnist", tmp_path)


def test_mnist_files_of_another_kind(tmp_path: Path) -> None:
    raw = tmp_path / "MNIST" / "raw"
    for name, _ in datasets.MNIST.resources:
        raw.mkdir(parents=True, exist_ok=True)
        (raw / Path(name).stem).write_bytes(b"\x00\x00\x77\x09" + bytes(60))
    with pytest.raises(SourceError, match=r"cannot read .*train-images-idx3-ubyte \(.*\): fetch the file again"):
        opened("mnist", tmp_path)


def test_torchvision_set_that_cannot_be_had(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"imagenet is not in .* and cannot be downloaded"):
        opened("imagenet", tmp_path)
