from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
from torchvision import datasets

from features.errors import SourceError
from features.sources.options import SourceOptions
from features.sources.registry import open_source
from features.sources.source import Source
from tests.conftest import write_images


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
    pixels = source.read(source.items.index[0])
    assert isinstance(pixels, np.ndarray)
    assert pixels.shape == (20, 24, 3)


def test_torchvision_set_that_cannot_be_had(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"imagenet is not in .* and cannot be downloaded"):
        opened("imagenet", tmp_path)
