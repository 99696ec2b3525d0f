"""Image sets known by name: scikit-learn's digits, MNIST and its kin, and torchvision's other classification sets."""

from __future__ import annotations

import gzip
import hashlib
import inspect
import shutil
import tempfile
import zlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torchvision import datasets

from features.errors import SourceError, first_line
from features.sources.files import file_stamp, read_file
from features.sources.source import Payload, Source, listing

MNIST_KIN = {"mnist": datasets.MNIST, "fashionmnist": datasets.FashionMNIST, "kmnist": datasets.KMNIST}

Arguments = Mapping[str, str | bool]
"""What the constructor of a set of torchvision's takes besides its folder, by name."""

_ALL: Mapping[str, Arguments] = {"train": {}}
_BY_FLAG: Mapping[str, Arguments] = {"train": {"train": True}, "test": {"train": False}}
_TWO: Mapping[str, Arguments] = {"train": {"split": "train"}, "test": {"split": "test"}}
_VALIDATED: Mapping[str, Arguments] = {"train": {"split": "train"}, "validation": {"split": "val"}}
_THREE: Mapping[str, Arguments] = {**_TWO, **_VALIDATED}

TORCHVISION: dict[str, tuple[Callable[..., Any], Mapping[str, Arguments]]] = {
    "caltech101": (datasets.Caltech101, _ALL),
    "caltech256": (datasets.Caltech256, _ALL),
    "cifar10": (datasets.CIFAR10, _BY_FLAG),
    "cifar100": (datasets.CIFAR100, _BY_FLAG),
    "clevrclassification": (datasets.CLEVRClassification, _VALIDATED),
    "country211": (datasets.Country211, {**_TWO, "validation": {"split": "valid"}}),
    "dtd": (datasets.DTD, _THREE),
    "emnist": (datasets.EMNIST, {name: {"split": "balanced", **flag} for name, flag in _BY_FLAG.items()}),
    "eurosat": (datasets.EuroSAT, _ALL),
    "fgvcaircraft": (datasets.FGVCAircraft, _THREE),
    "flowers102": (datasets.Flowers102, _THREE),
    "food101": (datasets.Food101, _TWO),
    "gtsrb": (datasets.GTSRB, _TWO),
    "imagenet": (datasets.ImageNet, _VALIDATED),
    "imagenette": (datasets.Imagenette, _VALIDATED),
    "lfwpeople": (datasets.LFWPeople, {"train": {"split": "10fold"}}),  # its test split has other people
    "oxfordiiitpet": (datasets.OxfordIIITPet, {"train": {"split": "trainval"}, "test": {"split": "test"}}),
    "pcam": (datasets.PCAM, _THREE),
    "qmnist": (datasets.QMNIST, {"train": {"what": "train"}, "test": {"what": "test10k"}}),
    "renderedsst2": (datasets.RenderedSST2, _THREE),
    "semeion": (datasets.SEMEION, _ALL),
    "stanfordcars": (datasets.StanfordCars, _TWO),
    "stl10": (datasets.STL10, _TWO),
    "sun397": (datasets.SUN397, _ALL),
    "svhn": (datasets.SVHN, _TWO),
    "usps": (datasets.USPS, _BY_FLAG),
}
"""Name to torchvision's class and its constructor's arguments for each split that it gives."""

KNOWN = ("digits", *MNIST_KIN, *TORCHVISION)
"""The data sets that are known by name."""

MIRROR_MATTERS = {"digits", "mnist", "qmnist", "kmnist", "emnist", "usps", "svhn", "semeion", "gtsrb", "renderedsst2"}
"""Sets of digits, letters and road signs, which are others in the mirror, and which AlexNet alone does for."""

FILES: dict[str, Callable[[Any], Iterable[Path | str]]] = {
    "caltech101": lambda part: (
        Path(part.root, "101_ObjectCategories", part.categories[label], f"image_{number:04d}.jpg")
        for label, number in zip(part.y, part.index, strict=True)
    ),
    "caltech256": lambda part: (
        Path(part.root, "256_ObjectCategories", part.categories[label], f"{label + 1:03d}_{number:04d}.jpg")
        for label, number in zip(part.y, part.index, strict=True)
    ),
    **dict.fromkeys(
        ("clevrclassification", "dtd", "fgvcaircraft", "flowers102", "food101", "sun397"),
        lambda part: part._image_files,
    ),
    **dict.fromkeys(("country211", "eurosat", "imagenet"), lambda part: (path for path, _ in part.samples)),
    **dict.fromkeys(
        ("gtsrb", "imagenette", "renderedsst2", "stanfordcars"), lambda part: (path for path, _ in part._samples)
    ),
    "lfwpeople": lambda part: part.data,
    "oxfordiiitpet": lambda part: part._images,
}
"""Where the image files of those of TORCHVISION are that have some: they are decoded as those of a folder are."""


def open_named(name: str, data_dir: Path) -> Source:
    """One of KNOWN, from `data_dir`; downloaded where it is not there and can be. Raises SourceError."""
    if name == "digits":
        return _open_digits()
    return _open_mnist_kin(name, data_dir) if name in MNIST_KIN else _open_torchvision(name, data_dir)


def _open_digits() -> Source:
    """scikit-learn's 1,797 digits of 8 × 8 pixels, 60 / 15 / 25 % for training, validation and test, stratified."""
    values, labels = map(np.asarray, load_digits(return_X_y=True))
    pixels = np.rint(values.reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8)
    rest, test = train_test_split(np.arange(len(pixels)), test_size=0.25, stratify=labels, random_state=0)
    _, validation = train_test_split(rest, test_size=0.2, stratify=labels[rest], random_state=0)
    splits = np.full(len(pixels), "train", dtype=object)
    splits[test], splits[validation] = "test", "validation"
    return _pixel_source("digits", tuple(map(str, range(10))), [("", splits.tolist(), pixels, labels)])


def _open_mnist_kin(name: str, data_dir: Path) -> Source:
    """MNIST, Fashion-MNIST or Kuzushiji-MNIST from `data_dir/<Class>/raw`, packed or not, which is left as it is."""
    kind = MNIST_KIN[name]
    raw = data_dir / kind.__name__ / "raw"
    if _missing(kind, raw):
        _download_mnist(kind, data_dir)
    groups = []
    for split, part in (("train", "train"), ("test", "t10k")):
        pixels, labels = _idx(raw / f"{part}-images-idx3-ubyte"), _idx(raw / f"{part}-labels-idx1-ubyte")
        _check_mnist(raw, split, pixels, labels, len(kind.classes))
        groups.append((f"{split}/", [split] * len(pixels), pixels, labels))
    return _pixel_source(name, tuple(kind.classes), groups)


def _idx(path: Path) -> NDArray[np.uint8]:
    """The numbers in a file of MNIST's format, or in the same file packed; raises SourceError where it is damaged."""
    packed = path.with_name(f"{path.name}.gz")
    try:
        content = path.read_bytes() if path.exists() else gzip.decompress(packed.read_bytes())
        sides = np.frombuffer(content, ">i4", content[3], 4)  # behind two zeros, the type and how many sides there are
        values = np.frombuffer(content, np.uint8, offset=4 + 4 * len(sides)).reshape(sides).copy()
    except (OSError, EOFError, zlib.error, ValueError, IndexError) as error:
        raise SourceError(
            f"cannot read {path if path.exists() else packed} ({first_line(error)}): fetch the file again"
        ) from error
    return values


def _open_torchvision(name: str, data_dir: Path) -> Source:
    """One of TORCHVISION, in torchvision's own layout."""
    _, split_arguments = TORCHVISION[name]
    parts = {split: _construct(name, data_dir, arguments) for split, arguments in split_arguments.items()}
    first, *_ = parts.values()
    labels = np.concatenate([_labels(part) for part in parts.values()])
    names = getattr(first, "classes", None) or getattr(first, "categories", None) or range(1 + int(labels.max()))
    places = [(split, row) for split, part in parts.items() for row in range(len(part))]
    files = [Path(path) for part in parts.values() for path in FILES[name](part)] if name in FILES else []

    def read(position: int) -> Payload:
        split, row = places[position]
        return read_file(files[position]) if files else _pixels(parts[split], row)

    keys, splits = [f"{split}/{row:07d}" for split, row in places], [split for split, _ in places]
    return Source(
        name=name,
        classes=tuple(name[0] if isinstance(name, tuple) else str(name) for name in names),
        items=listing(keys, splits, labels, list(map(file_stamp, files))),
        read=read,
        mirror_matters=name in MIRROR_MATTERS,
    )


def _pixel_source(
    name: str, classes: tuple[str, ...], groups: Iterable[tuple[str, list[str], NDArray[np.uint8], NDArray[np.integer]]]
) -> Source:
    """A source held in memory, from groups of (key prefix, splits, pixels, labels)."""
    images = [image for _, _, pixels, _ in groups for image in pixels]
    items = listing(
        [f"{prefix}{row:07d}" for prefix, splits, _, _ in groups for row in range(len(splits))],
        [split for _, splits, _, _ in groups for split in splits],
        np.concatenate([labels for _, _, _, labels in groups]).astype(np.int32),
        [hashlib.sha256(image).hexdigest() for image in images],
    )
    return Source(
        name=name, classes=classes, items=items, read=lambda row: images[row], mirror_matters=name in MIRROR_MATTERS
    )


def _pixels(part: Any, row: int) -> Payload:
    """An image of a set that holds arrays; raises OSError for a row that is damaged."""
    try:
        return np.asarray(part[row][0].convert("RGB"))
    except (OSError, MemoryError):
        raise
    except Exception as error:  # what a set's library raises for a damaged file
        raise OSError(f"row {row} is damaged ({first_line(error)})") from error


def _check_mnist(raw: Path, split: str, pixels: NDArray[np.uint8], labels: NDArray[np.uint8], classes: int) -> None:
    """Raise SourceError unless each image of a split has a label, and each label a class."""
    if len(pixels) != len(labels) or pixels.ndim != 3 or labels.ndim != 1:
        raise SourceError(
            f"{raw} has {len(pixels):,} {split} images, but {len(labels):,} labels: fetch its files again"
        )
    largest = int(labels.max(initial=0))
    if largest >= classes:
        raise SourceError(f"{raw} has the {split} label {largest}, expected 0 to {classes - 1}: fetch its files again")


def _missing(kind: type[datasets.MNIST], raw: Path) -> list[Path]:
    """The packed files that are there neither packed nor unpacked."""
    packed = [raw / name for name, _ in kind.resources]
    return [path for path in packed if not path.exists() and not path.with_suffix("").exists()]


def _download_mnist(kind: type[datasets.MNIST], data_dir: Path) -> None:
    """Download to a scratch folder, then copy to `data_dir`, so that a failure leaves nothing behind."""
    with tempfile.TemporaryDirectory() as scratch:
        try:
            kind(scratch, download=True)
        except (RuntimeError, OSError) as error:
            missing = ", ".join(map(str, _missing(kind, data_dir / kind.__name__ / "raw")))
            raise SourceError(
                f"{kind.__name__} could not be downloaded and these files are missing: {missing}; "
                "put them there or point `data_dir` at a folder that has them"
            ) from error
        try:
            shutil.copytree(scratch, data_dir, dirs_exist_ok=True)
        except OSError as error:
            raise SourceError(f"cannot write {data_dir} ({error.strerror}): choose another `data_dir`") from error


def _construct(name: str, data_dir: Path, arguments: Arguments) -> Any:
    kind: Any = TORCHVISION[name][0]
    try:
        return kind(str(data_dir), **arguments)
    except Exception as absent:  # whatever a damaged list or archive makes of it
        if not issubclass(kind, datasets.MNIST) and "download" not in inspect.signature(kind).parameters:
            raise SourceError(f"{name} is not in {data_dir} and cannot be downloaded: {absent}") from absent
    try:
        return kind(str(data_dir), download=True, **arguments)
    except Exception as error:  # as above
        raise SourceError(
            f"{name} is not in {data_dir}, or damaged there, and could not be downloaded ({first_line(error)}): "
            "put it there in torchvision's layout or choose another `data_dir`"
        ) from error


def _labels(part: Any) -> NDArray[np.int32]:
    """The labels of a torchvision set, without decoding its images where it lists them."""
    for attribute in ("targets", "labels", "_labels", "y"):
        if hasattr(part, attribute):
            return np.asarray(getattr(part, attribute)).reshape(len(part), -1)[:, 0].astype(np.int32)
    samples = getattr(part, "_samples", None) or (part[row] for row in range(len(part)))
    return np.asarray([sample[1] for sample in samples], dtype=np.int32)
