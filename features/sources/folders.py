"""Folders of images: a folder for each class, with or without train, val and test, or no classes at all."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from features.errors import SourceError, counted, some
from features.sources.files import read_file
from features.sources.layout.reading import CLASSES, Layout, Part, read_layout
from features.sources.layout.tree import Identity, Tree, scan
from features.sources.names import clean_names
from features.sources.options import FOLDER, NEAR, SourceOptions
from features.sources.source import UNLABELLED, OnListed, Source, listing, name_classes
from features.stores import listed_once, name_of

logger = logging.getLogger(__name__)


def open_folder(root: Path, asked: SourceOptions, on_listed: OnListed) -> Source:
    """List every file below each class folder that may be an image; whether it is one is found out when it is decoded.

    Raises SourceError for a folder without images, an empty class folder, one that may not be read, or a layout that
    can be read in two ways.
    """
    if asked.group_column not in ("", FOLDER):
        raise SourceError(
            f"`group={asked.group}` says nothing about {root}, a folder of images: expected {FOLDER} or {NEAR}"
        )
    tree = scan(root, on_listed)
    layout = read_layout(tree, asked.layout)
    parts = layout.parts or (Part(split="train", name="", folder=layout.top),)
    rows = [(part, key, stamp) for part in parts for key, stamp in part.folder.images_below()]
    keys = [key for _, key, _ in rows]
    classes: tuple[str, ...] = ()
    labels = [UNLABELLED] * len(rows)
    if layout.parts:
        _warn(tree, layout)
        classes, labels = name_classes(clean_names([part.name for part, _, _ in rows], str(root)))
    return Source(
        name=name_of(root),
        classes=classes,
        items=listing(
            keys,
            [part.split for part, _, _ in rows],
            labels,
            [stamp for _, _, stamp in rows],
            _groups(root, [(part, key) for part, key, _ in rows]) if asked.group_column else None,
        ),
        read=lambda row: read_file(root / keys[row]),
        layout=_say(tree, layout).replace(CLASSES, counted(len(classes), "class")),
    )


def files_below(folder: Path) -> list[Path]:
    """Every file below `folder` that may be an image; raises SourceError for a folder that may not be read."""
    with listed_once():
        tree = scan(folder)
    left_out = tree.left_out()
    if left_out:
        logger.warning("%s: %s", folder, ", ".join(left_out))
    return sorted(folder / key for key, _ in tree.top.images_below())


def _groups(root: Path, images: Sequence[tuple[Part, str]]) -> list[str | None]:
    """Class and sub-folder of each image; None for one that lies in its class's folder itself."""
    inside = [key[len(part.folder.path) :].lstrip("/").split("/") for part, key in images]
    if all(len(path) == 1 for path in inside):
        raise SourceError(f"`group={FOLDER}`, but no class of {root} has sub-folders: leave it out")
    return [
        f"{part.name}/{path[0]}".lstrip("/") if len(path) > 1 else None
        for (part, _), path in zip(images, inside, strict=True)
    ]


def _warn(tree: Tree, layout: Layout) -> None:
    """Say which images are in no class folder, and which class folders are the same one."""
    for folder in layout.loose:
        if folder.files:
            count, first = counted(len(folder.files), "file"), folder.files[0][0]
            logger.warning("%s in %s in no class folder, not used: %s …", count, tree.root / folder.path, first)
    found: dict[Identity, list[str]] = defaultdict(list)
    for part in layout.parts:
        for folder in part.folder.walk():
            found[folder.identity].append(folder.path)
    twice = [f"{' and '.join(paths)} are one folder" for paths in found.values() if len(paths) > 1]
    if twice:
        logger.warning("%s, by way of links: their images are listed more than once", some(twice))


def _say(tree: Tree, layout: Layout) -> str:
    where = f"in {layout.top.path}/: " if layout.top.path else ""
    return where + ", ".join(layout.said[:2]) + "".join(f"; {each}" for each in (*layout.said[2:], *tree.left_out()))
