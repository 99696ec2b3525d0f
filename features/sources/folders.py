"""Folders of images: a folder for each class, with or without train, val and test, or no classes at all."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from features.errors import SourceError, some
from features.sources.files import read_file
from features.sources.layout.reading import CLASSES, Layout, Part, read_layout
from features.sources.layout.tree import Identity, Tree, counted, scan
from features.sources.names import clean_names
from features.sources.options import SourceOptions
from features.sources.source import UNLABELLED, OnListed, Source, listing, name_classes

logger = logging.getLogger(__name__)


def open_folder(root: Path, asked: SourceOptions, on_listed: OnListed) -> Source:
    """List every file below each class folder that may be an image; whether it is one is found out when it is decoded.

    Raises SourceError for a folder without images, an empty class folder, one that may not be read, or a layout that
    can be read in two ways.
    """
    tree = scan(root, on_listed)
    layout = read_layout(tree, asked.layout)
    _warn(tree, layout)
    rows = [(part, key, stamp) for part in layout.parts for key, stamp in part.folder.images_below()]
    if layout.parts:
        names = dict(zip(_names(layout.parts), clean_names(_names(layout.parts), str(root)), strict=True))
        _check_trained(root, layout.parts, names)
        classes, labels = name_classes([names[part.name] for part, _, _ in rows])
        keys, splits, stamps = (
            [key for _, key, _ in rows],
            [part.split for part, _, _ in rows],
            [row[2] for row in rows],
        )
    else:
        keys, stamps = map(list, zip(*layout.top.images_below(), strict=True))
        classes, labels, splits = (), [UNLABELLED] * len(keys), ["train"] * len(keys)
    return Source(
        name=root.resolve().name,
        classes=classes,
        items=listing(keys, splits, labels, stamps),
        read=lambda row: read_file(root / keys[row]),
        layout=_say(tree, layout).replace(CLASSES, counted(len(classes), "class")),
    )


def files_below(folder: Path) -> list[Path]:
    """Every file below `folder` that may be an image; raises SourceError for a folder that may not be read."""
    tree = scan(folder)
    left_out = tree.left_out()
    if left_out:
        logger.warning("%s: %s", folder, ", ".join(left_out))
    return sorted(folder / key for key, _ in tree.top.images_below())


def _names(parts: Sequence[Part]) -> list[str]:
    return sorted({part.name for part in parts})


def _check_trained(root: Path, parts: Sequence[Part], names: dict[str, str]) -> None:
    """Raise SourceError for a class that only other splits than train have."""
    trained = {names[part.name] for part in parts if part.split == "train"}
    absent = sorted({names[part.name] for part in parts} - trained)
    if trained and absent:
        where = [str(root / part.folder.path) for part in parts if names[part.name] in absent]
        raise SourceError(
            f"{root} has no training image of {len(absent)} of its {len(trained) + len(absent)} classes "
            f"({some(absent)}): expected one of each at least, add images to its train folder or move {where[0]} away"
        )


def _warn(tree: Tree, layout: Layout) -> None:
    """Say which images are in no class folder, and which class folders are the same one."""
    if not layout.parts:
        return
    for folder in layout.loose:
        if folder.files:
            logger.warning(
                "%s in %s in no class folder, not used: %s …",
                counted(len(folder.files), "file"),
                tree.root / folder.path,
                folder.files[0][0],
            )
    found: dict[Identity, list[str]] = defaultdict(list)
    for part in layout.parts:
        for folder in part.folder.walk():
            found[folder.identity].append(folder.path)
    twice = [paths for paths in found.values() if len(paths) > 1]
    if twice:
        logger.warning(
            "%s, by way of links: their images are listed more than once",
            some([f"{' and '.join(paths)} are one folder" for paths in twice]),
        )


def _say(tree: Tree, layout: Layout) -> str:
    where = f"in {layout.top.path}/: " if layout.top.path else ""
    return where + ", ".join(layout.said[:2]) + "".join(f"; {each}" for each in (*layout.said[2:], *tree.left_out()))
