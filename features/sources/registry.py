"""Image sources: what a data set is named by, opened as a list of labelled images with their splits decided."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from features.errors import SourceError
from features.sources.folders import open_folder
from features.sources.hub import hub_files, open_hub
from features.sources.manifests import open_manifest
from features.sources.named import MNIST_KIN, TORCHVISION, open_digits, open_mnist_kin, open_torchvision
from features.sources.source import SPLITS, Source, check_labelled, check_learnable, drop_unused_classes
from features.sources.splits import complete_splits

KNOWN = ("digits", *MNIST_KIN, *TORCHVISION)


def open_source(
    dataset: str, *, data_dir: Path, train_limit: int | None = None, seed: int = 0, splits: Sequence[str] = SPLITS
) -> Source:
    """Open an image set by name, or from a folder, a manifest file or a folder of Parquet files.

    `data_dir` is where sets known by name lie or are downloaded to; `splits` are those that are needed: of a set that
    lacks one of them, part of training becomes it. Raises SourceError.

    >>> source = open_source("photos", data_dir=Path("data"))
    >>> source.classes, source.items["split"].value_counts().to_dict()
    (('beech', 'oak'), {'train': 30, 'test': 12, 'validation': 6})
    >>> source.items[["key", "split", "label"]].head(2)
                  key  split  label
    0  beech/0001.jpg  train      0
    2  beech/0003.jpg  train      0
    """
    source = drop_unused_classes(_open(dataset, data_dir))
    check_labelled(dataset, source.items, source.classes)
    items = complete_splits(source.items, train_limit, seed, splits)
    check_learnable(dataset, items, source.classes)
    for split in splits:
        if not (items["split"] == split).any():
            count = (items["split"] == "train").sum()
            raise SourceError(
                f"{dataset} has {count} training images, too few to leave any for {split}: "
                "add images, or raise `train_limit`"
            )
    return replace(source, items=items)


def _open(dataset: str, data_dir: Path) -> Source:
    name, path = dataset.lower(), Path(dataset)
    if name == "digits":
        return open_digits()
    if name in MNIST_KIN:
        return open_mnist_kin(name, data_dir)
    if name in TORCHVISION:
        return open_torchvision(name, data_dir)
    if dataset and path.is_dir():
        return open_hub(path) if hub_files(path) else open_folder(path)
    if path.is_file():
        return open_manifest(path)
    raise SourceError(
        f"unknown data set {dataset!r}: expected a folder of images, a CSV or Parquet manifest, "
        f"or one of {', '.join(KNOWN)}"
    )
