"""Folders with a folder of images for each class, with or without train/, val/ and test/ above them."""

from __future__ import annotations

import logging
import os
from pathlib import Path

from features.errors import SourceError
from features.sources.files import file_stamp, read_file
from features.sources.options import SourceOptions
from features.sources.source import SPLIT_ALIASES, OnListed, Source, listing, name_classes

logger = logging.getLogger(__name__)

LITTER = {"thumbs.db", "desktop.ini"}
"""Files that operating systems leave behind; hidden files are passed over as well."""


def open_folder(root: Path, asked: SourceOptions, on_listed: OnListed) -> Source:
    """List every file below each class folder; what is no image is found out, and counted, when it is decoded.

    Raises SourceError for a folder without images, an empty class folder, or one class only.
    """
    try:
        parts = _split_folders(root)
        rows = [
            (path, split, name) for split, folder in parts for name, files in _class_files(folder) for path in files
        ]
        stamps = [file_stamp(path) for path, _, _ in rows]
    except OSError as error:
        raise SourceError(f"cannot list {error.filename or root} ({error.strerror}): check its permissions") from error
    classes, labels = name_classes([name for _, _, name in rows])
    keys = [path.relative_to(root).as_posix() for path, _, _ in rows]
    items = listing(keys, [split for _, split, _ in rows], labels, stamps)
    return Source(name=root.resolve().name, classes=classes, items=items, read=lambda row: read_file(rows[row][0]))


def _split_folders(root: Path) -> list[tuple[str, Path]]:
    """The folders that hold class folders, each with its split; the root alone where no splits are given."""
    splits = [(SPLIT_ALIASES.get(folder.name.lower()), folder) for folder in _visible_folders(root)]
    strangers = [folder.name for split, folder in splits if split is None]
    has_train = any(split == "train" and _visible_folders(folder) for split, folder in splits)
    if not has_train and (strangers or not splits):
        return [("train", root)]
    if not has_train:
        names = ", ".join(folder.name for _, folder in splits)
        raise SourceError(f"{root} has {names} but no train folder with class folders in it: put the classes there")
    if strangers:
        raise SourceError(
            f"{root} has {strangers[0]!r} beside its train folder: "
            "expected train, validation and test only, move it away"
        )
    return [(split, folder) for split, folder in splits if split is not None]


def _class_files(folder: Path) -> list[tuple[str, list[Path]]]:
    """Each class folder's name and files; raises SourceError where there are none."""
    classes = _visible_folders(folder)
    loose = [path for path in folder.iterdir() if path.is_file() and not _is_litter(path.name)]
    if loose:
        logger.warning(
            "%d files in %s are in no class folder and are not used: %s …", len(loose), folder, loose[0].name
        )
    if not classes:
        raise SourceError(f"{folder} has no class folders: expected a folder of images for each class")
    listed = [(class_folder, files_below(class_folder)) for class_folder in classes]
    for class_folder, files in listed:
        if not files:
            raise SourceError(f"class folder {class_folder} is empty: put images into it or remove it")
    return [(class_folder.name, files) for class_folder, files in listed]


def _visible_folders(folder: Path) -> list[Path]:
    """The folders in `folder`, without hidden ones and links that lead back up."""
    above = {folder.resolve(), *folder.resolve().parents}
    return sorted(
        path
        for path in folder.iterdir()
        if path.is_dir() and not path.name.startswith(".") and path.resolve() not in above
    )


def files_below(folder: Path) -> list[Path]:
    """Every file below `folder`, links followed but never back up; hidden files, litter and pipes left out."""
    files: list[Path] = []
    visited = {str(parent) for parent in folder.resolve().parents}
    for parent, folders, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(parent)
        if real in visited:  # a link back up would never end
            folders.clear()
            continue
        visited.add(real)
        files += [Path(parent, name) for name in names if not _is_litter(name)]
    return sorted(path for path in files if path.is_file() or not path.exists())


def _is_litter(name: str) -> bool:
    return name.startswith(".") or name.lower() in LITTER
