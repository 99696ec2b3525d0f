"""What the folders of an image set are: classes, splits with classes in them, classes with splits in them, or neither.

It decides by names and by what lies where, says what it decided in a line, and refuses what can be read in two ways.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from features.errors import SourceError, counted, some
from features.sources.layout.tree import Folder, Tree
from features.sources.layout.words import (
    are_parts,
    fold_number,
    parse,
    refuse_twice,
    says_no_labels,
    says_nothing,
    splits_of,
)
from features.sources.source import SPLITS

STRAY_IMAGES = 10
"""An image loose beside a lone folder of so many is a stray one, and the folder is what is meant."""

CLASSES = "{classes}"
"""Stands for how many classes there are in what is said: names in two forms may be one."""

LISTS = {".csv", ".tsv", ".txt", ".parquet", ".json", ".jsonl"}
"""How files end that may say which image is what."""

Asked = Literal["auto", "classes", "splits"]


@dataclass(frozen=True, kw_only=True)
class Part:
    """A class folder: whose images it holds, and of which split."""

    split: str
    name: str
    folder: Folder


@dataclass(frozen=True, kw_only=True)
class Layout:
    """The class folders (none: images without labels in `top`), how they were found, and images in no class folder."""

    top: Folder
    parts: tuple[Part, ...]
    said: tuple[str, ...] = ()
    loose: tuple[Folder, ...] = ()


def read_layout(tree: Tree, asked: Asked) -> Layout:
    """Decide what the folders of `tree` are; raises SourceError where that cannot be told, with what decides."""
    top = _unwrap(tree.top, _says_split)
    if not top.images:
        raise SourceError(_without_images(tree))
    layout, where = None, str(tree.root / top.path)
    if asked != "classes":
        layout = _splits_here(where, top, asked) or _splits_below(where, top, asked)
    if asked == "splits" and not layout:
        found = some([folder.name for folder in top.filled()])
        raise SourceError(f"`layout=splits`, but {where} holds {found or 'no folders'}: expected train/")
    if not layout and asked == "auto":
        _refuse_other_readings(where, top)
    layout = layout or _classes_here(top)
    _check_class_folders(tree, layout.parts, asked)
    return layout


def _unwrap(folder: Folder, stays: Callable[[Folder], bool]) -> Folder:
    """The folder in which there is something to choose: a lone one around it all is entered, unless it `stays`."""
    while len(folder.filled()) == 1:
        inner = folder.filled()[0]
        empty = any(not below.images and not below.others and not below.folders for below in folder.folders)
        full = STRAY_IMAGES * len(folder.files) > inner.images
        if empty or full or not inner.filled() or stays(inner):
            break
        folder = inner
    return folder


def _says_split(folder: Folder) -> bool:
    """Whether a lone folder is the one split that is given, rather than a wrapper around several."""
    inside = splits_of([below.name for below in folder.filled()])
    return parse(folder.name)[0] is not None and len(set(inside.values())) < 2


def _enter_split(folder: Folder) -> Folder:
    """A split's folder, past doubles of itself (seg_train/seg_train) and lone wrappers (train/images)."""
    folder = _unwrap(folder, lambda _: False)
    filled = folder.filled()
    if len(filled) == 1 and not folder.files and (says_nothing(filled[0].name) or _same_split(filled[0], folder)):
        return filled[0]
    return folder


def _same_split(first: Folder, second: Folder) -> bool:
    return parse(first.name)[0] == parse(second.name)[0] is not None


def _refuse_other_readings(where: str, top: Folder) -> None:
    """Raise SourceError for folders that may as well be sets of their own, or parts of one, as classes."""
    filled = top.filled()
    names = [folder.name for folder in filled]
    inside = [_class_names(folder) for folder in filled]
    shared = set.intersection(*inside) if len(filled) > 1 else set()
    if len(shared) > 1:
        raise SourceError(
            f"{where} holds {some(names)} with {some(sorted(shared))} in each: these may be the classes "
            f"(`layout=classes`), or copies or parts of a set, of which to give one, such as {where}/{names[0]}"
        )
    if are_parts(names):
        raise SourceError(
            f"{where} holds {some(names)}, which by their names are no classes: give a list of path,label, or "
            "`layout=classes` if they are"
        )


def _classes_here(top: Folder) -> Layout:
    filled = top.filled()
    if not filled:
        return Layout(top=top, parts=(), said=(f"no class folders: {counted(top.images, 'image')} without labels",))
    within = sum(1 for folder in filled for below in folder.walk() if below.files and below is not folder)
    inside = f" with {counted(within, 'folder')} in them" if within else ""
    said = f"{CLASSES}{inside}, no splits, validation and test drawn from them"
    return Layout(top=top, parts=_parts("train", top), said=(said,), loose=tuple(top.line()))


def _parts(split: str, folder: Folder) -> tuple[Part, ...]:
    return tuple(Part(split=split, name=below.name, folder=below) for below in folder.folders)


def _splits_here(where: str, top: Folder, asked: Asked) -> Layout | None:
    """The reading of `top`'s folders as splits, or None where they are no splits."""
    given = splits_of([folder.name for folder in top.filled()])
    inner = {folder.name: _enter_split(folder) for folder in top.filled()}
    classes = {name: _class_names(folder) for name, folder in inner.items()}
    lists = sorted(LISTS & set(top.others))
    if not _are_splits(where, given, classes, lists):
        return None
    labelled = {name: split for name, split in given.items() if classes[name]}
    if asked == "auto":
        _refuse_rivals(where, given, classes)
    refuse_twice(where, labelled)
    return Layout(
        top=top,
        parts=tuple(part for name, split in labelled.items() for part in _parts(split, inner[name])),
        said=(_say_splits(labelled), CLASSES, *_say_left_out(top, given, labelled)),
        loose=tuple(dict.fromkeys(folder for name in labelled for folder in inner[name].line())),
    )


def _are_splits(where: str, given: dict[str, str], classes: dict[str, set[str]], lists: Sequence[str]) -> bool:
    """Whether folders that are called splits are some; `classes` are the folders in each.

    Raises SourceError where they are, but no train folder has class folders.
    """
    strangers = [name for name in classes if name not in given]
    known = {label for name in given for label in classes[name]}
    if any(split == "train" and classes[name] for name, split in given.items()):
        return True
    if known:
        meant = not strangers or any(classes[name] & known for name in strangers)
    else:
        meant = len(set(given.values())) > 1 or (bool(given) and all(map(says_no_labels, strangers)))
    if meant:
        raise SourceError(
            f"{where} has {some(list(given))} but no train folder with class folders in it: put the classes there, "
            + (f"give the list that lies there ({some(lists)}), " if lists else "")
            + "or give `layout=classes` if all its folders are classes"
        )
    return False


def _refuse_rivals(where: str, given: dict[str, str], classes: dict[str, set[str]]) -> None:
    """Raise SourceError for folders beside splits that could as well be classes, or more splits."""
    labelled = [name for name in given if classes[name]]
    first, *more = (classes[name] for name in labelled)
    sure = any(first & others for others in more)
    strangers = {name: inside for name, inside in classes.items() if name not in given}
    rivals = [
        name for name, inside in strangers.items() if inside & first.union(*more) or not (sure or says_no_labels(name))
    ]
    if rivals:
        raise SourceError(
            f"{where} holds {some(labelled)} and {some(rivals)}, which may be classes (`layout=classes`) or "
            "splits beside what is no part of them (`layout=splits`): give the one that is right"
        )


def _class_names(folder: Folder) -> set[str]:
    return {below.name.lower() for below in folder.filled()}


def _splits_below(where: str, top: Folder, asked: Asked) -> Layout | None:
    """The reading as class folders that each hold their splits (cat/train, cat/test), or None where they do not."""
    inside = {folder.name: [below.name for below in folder.filled()] for folder in top.filled()}
    given = splits_of(sorted({name for names in inside.values() for name in names}))
    if "train" not in given.values():
        return None
    mixed = [folder.name for folder in top.filled() if folder.files or not set(inside[folder.name]) <= set(given)]
    several = [name for name, names in inside.items() if len(set(names) & set(given)) > 1]
    if mixed and not several and asked == "auto":
        return None
    if mixed:
        raise SourceError(
            f"{where} has {some(sorted(given))} in {(several or list(inside))[0]}/, but not so in {mixed[0]}/: "
            "expected the same splits in each class, or `layout=classes` if they are none"
        )
    for name, names in inside.items():
        refuse_twice(f"{where}/{name}", {each: given[each] for each in names})
    below = [(folder, split) for folder in top.filled() for split in folder.filled()]
    parts = tuple(Part(split=given[split.name], name=folder.name, folder=split) for folder, split in below)
    return Layout(top=top, parts=parts, said=(f"{_say_splits(given)} in each of {CLASSES}",), loose=tuple(top.line()))


def _check_class_folders(tree: Tree, parts: Sequence[Part], asked: Asked) -> None:
    """Raise SourceError for class folders that hold no image, or that are splits or shards."""
    for part in parts:
        if not part.folder.images:
            others = sorted({suffix for below in part.folder.walk() for suffix in below.others})
            what = f"holds {some(others)} files only" if others else "is empty"
            raise SourceError(f"class folder {tree.root / part.folder.path} {what}: put images into it or remove it")
    if asked == "classes":
        return
    names = sorted({part.name for part in parts})
    inside = {part.name for part in parts if part.folder.filled()}
    hidden = [name for name in splits_of(names) if name in inside]
    if len(hidden) > 1:
        raise SourceError(
            f"{tree.root} has {some(hidden)} where classes are expected: move them up, or give `layout=classes`"
        )
    if _are_shards(parts):
        raise SourceError(
            f"{tree.root} holds {some(names)}, which look like img2dataset's shards with a text for each image, not "
            "classes: expected a list of path,label, or `layout=classes` if they are classes"
        )


def _are_shards(parts: Sequence[Part]) -> bool:
    """Whether these are 00000, 00001 … with about a text or record beside every image."""
    numbered = all(part.name.isdecimal() and len(part.name) > 3 for part in parts)
    texts = sum(part.folder.others[suffix] for part in parts for suffix in (".txt", ".json"))
    return numbered and texts > 0 and 2 * texts >= sum(part.folder.images for part in parts)


def _without_images(tree: Tree) -> str:
    found = ", ".join(tree.left_out())
    what = "images" if tree.top.folders else "class folders"
    return f"{tree.root} has no {what}{found and f' ({found})'}: expected a folder of images for each class"


def _say_splits(given: dict[str, str]) -> str:
    found = []
    for split in SPLITS:
        names = [name for name, each in given.items() if each == split]
        as_said = all(name.lower() in (split, "val") for name in names)
        if names:
            found.append(some([f"{name}/" for name in names]) + ("" if as_said else f" ({split})"))
    folds = ["folds kept whole"] if any(fold_number(name) is not None for name in given) else []
    drawn = [split for split in ("validation", "test") if split not in given.values()]
    return ", ".join([*found, *folds, *([f"{' and '.join(drawn)} drawn from train"] if drawn else [])])


def _say_left_out(top: Folder, given: dict[str, str], used: dict[str, str]) -> list[str]:
    left = [folder for folder in top.filled() if folder.name not in used]
    return [
        f"{counted(folder.images, 'image')} in {folder.name}/ {'without labels ' * (folder.name in given)}left out"
        for folder in left
    ] + [f"nothing in {folder.name}/" for folder in top.folders if not folder.images]
