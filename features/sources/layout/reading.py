"""What the folders of an image set are: classes, splits with classes in them, classes with splits in them, or neither.

It decides by names and by what lies where, says what it decided in a line, and refuses what can be read in two ways.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from features.errors import SourceError, some
from features.sources.layout.tree import Folder, Tree, counted
from features.sources.layout.words import fold_number, parse, says_no_labels, says_nothing, splits_of
from features.sources.source import SPLITS

STRAY_IMAGES = 10
"""An image loose beside a lone folder of so many is a stray one, and the folder is what is meant."""

CLASSES = "{classes}"
"""Stands for how many classes there are in what is said: names in two forms may be one."""

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
    layout = None
    if asked != "classes":
        layout = _splits_here(tree, top, asked) or _splits_below(tree, top, asked)
    if asked == "splits" and not layout:
        found = some([folder.name for folder in top.filled()])
        raise SourceError(f"`layout=splits`, but {_shown(tree, top)} holds {found or 'no folders'}: expected train/")
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


def _classes_here(top: Folder) -> Layout:
    filled = top.filled()
    if not filled:
        return Layout(top=top, parts=(), said=(f"no class folders: {counted(top.images, 'image')} without labels",))
    within = sum(1 for folder in filled for below in folder.walk() if below.files and below is not folder)
    said = (
        CLASSES
        + (f" with {counted(within, 'folder')} in them" if within else "")
        + ", no splits, validation and test drawn from them"
    )
    return Layout(top=top, parts=tuple(_parts("train", top)), said=(said,), loose=_and_above(top))


def _and_above(*folders: Folder) -> tuple[Folder, ...]:
    """These folders and those around them, each once: what is loose in them is in no class folder."""
    found: dict[Folder, None] = {}
    for each in folders:
        above: Folder | None = each
        while above is not None:
            found[above] = None
            above = above.above
    return tuple(found)


def _parts(split: str, folder: Folder) -> Iterable[Part]:
    return (Part(split=split, name=below.name, folder=below) for below in folder.folders)


def _splits_here(tree: Tree, top: Folder, asked: Asked) -> Layout | None:
    """The reading of `top`'s folders as splits, or None where they are no splits."""
    filled = top.filled()
    given = splits_of([folder.name for folder in filled])
    inner = {folder.name: _enter_split(folder) for folder in filled}
    labelled = {name: split for name, split in given.items() if inner[name].filled()}
    strangers = [folder for folder in filled if folder.name not in given]
    where = _shown(tree, top)
    if not labelled:
        _refuse_unlabelled_splits(where, given, strangers)
        return None
    shared = _shared_classes(labelled, inner)
    rivals = [folder.name for folder in strangers if _is_rival(folder, labelled, inner, shared)]
    if "train" not in labelled.values():
        if strangers and not any(_class_names(inner[folder.name]) & shared for folder in strangers):
            return None
        raise SourceError(
            f"{where} has {some(list(given))} but no train folder with class folders in it: put the classes there"
            + (", or give `layout=classes` if all its folders are classes" if strangers else "")
        )
    if rivals and asked == "auto":
        raise SourceError(
            f"{where} holds {some(list(labelled))} and {some(rivals)}, which may be classes (`layout=classes`) or "
            f"splits beside what is no part of them (`layout=splits`): give the one that is right"
        )
    _refuse_twice(where, labelled)
    parts = [part for name, split in labelled.items() for part in _parts(split, inner[name])]
    left = [
        *(
            f"{counted(inner[name].images, 'image')} in {name}/ without labels left out"
            for name in given
            if name not in labelled
        ),
        *(f"{counted(folder.images, 'image')} in {folder.name}/ left out" for folder in strangers),
        *(f"nothing in {folder.name}/" for folder in top.folders if not folder.images),
    ]
    said = (_say_splits(labelled), CLASSES, *left)
    return Layout(top=top, parts=tuple(parts), said=said, loose=_and_above(*(inner[name] for name in labelled)))


def _refuse_unlabelled_splits(where: str, given: dict[str, str], strangers: Sequence[Folder]) -> None:
    """Raise SourceError where folders of images are splits by their names, but none holds class folders."""
    unlike_classes = all(says_no_labels(folder.name) for folder in strangers)
    if given and (unlike_classes or len(set(given.values())) > 1):
        raise SourceError(
            f"{where} has {some(list(given))} but no train folder with class folders in it: put the classes there, or "
            "give `layout=classes` if these are the classes"
        )


def _class_names(folder: Folder) -> set[str]:
    return {below.name.lower() for below in folder.filled()}


def _shared_classes(labelled: dict[str, str], inner: dict[str, Folder]) -> set[str]:
    return {name for each in labelled for name in _class_names(inner[each])}


def _is_rival(stranger: Folder, labelled: dict[str, str], inner: dict[str, Folder], classes: set[str]) -> bool:
    """Whether a folder beside splits could as well be a class, or one more split."""
    if _class_names(inner[stranger.name]) & classes:
        return True
    first, *more = (_class_names(inner[name]) for name in labelled)
    sure = says_no_labels(stranger.name) or any(first & others for others in more)
    return not sure


def _refuse_twice(where: str, given: dict[str, str]) -> None:
    if any(fold_number(name) is not None for name in given):
        return
    for split in SPLITS:
        names = [name for name, each in given.items() if each == split]
        if len(names) > 1:
            raise SourceError(f"{where} has {' and '.join(names)}, all of them {split}: keep one of them, or join them")


def _splits_below(tree: Tree, top: Folder, asked: Asked) -> Layout | None:
    """The reading as class folders that each hold their splits (cat/train, cat/test), or None where they do not."""
    classes = top.filled()
    given = splits_of(sorted({below.name for folder in classes for below in folder.filled()}))
    if "train" not in given.values():
        return None
    apart = [folder for folder in classes if _is_apart(folder, given)]
    if len(apart) < len(classes):
        several = [folder for folder in classes if len({below.name for below in folder.filled()} & set(given)) > 1]
        if not several and asked == "auto":
            return None
        other = next(folder for folder in classes if folder not in apart)
        raise SourceError(
            f"{_shown(tree, top)} has {some(sorted(given))} in {(several or classes)[0].name}/, but not so in "
            f"{other.name}/: expected the same splits in each class, or `layout=classes` if they are none"
        )
    for folder in classes:
        _refuse_twice(f"{_shown(tree, top)}/{folder.name}", {b.name: given[b.name] for b in folder.filled()})
    parts = tuple(
        Part(split=given[below.name], name=folder.name, folder=below) for folder in classes for below in folder.filled()
    )
    return Layout(top=top, parts=parts, said=(f"{_say_splits(given)} in each of {CLASSES}",), loose=_and_above(top))


def _is_apart(folder: Folder, given: dict[str, str]) -> bool:
    return not folder.files and all(below.name in given for below in folder.filled())


def _check_class_folders(tree: Tree, parts: Sequence[Part], asked: Asked) -> None:
    """Raise SourceError for class folders that hold no image, or that are splits or shards."""
    for part in parts:
        if not part.folder.images:
            raise SourceError(_empty(tree, part.folder))
    if asked == "classes" or not parts:
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
    if not (numbered and any(part.name.startswith("0") for part in parts)):
        return False
    texts = sum(part.folder.others[suffix] for part in parts for suffix in (".txt", ".json"))
    return 2 * texts >= sum(part.folder.images for part in parts)


def _empty(tree: Tree, folder: Folder) -> str:
    others = sum((below.others for below in folder.walk()), start=type(folder.others)())
    where = f"class folder {_shown(tree, folder)}"
    if others:
        return f"{where} holds {some(sorted(others))} files only: put images into it or remove it"
    return f"{where} is empty: put images into it or remove it"


def _without_images(tree: Tree) -> str:
    found = tree.left_out()
    seen = f" ({', '.join(found)})" if found else ""
    if tree.top.folders:
        return f"{tree.root} holds no images{seen}: expected a folder of images for each class"
    return f"{tree.root} has no class folders{seen}: expected a folder of images for each class"


def _say_splits(given: dict[str, str]) -> str:
    found = []
    for split in SPLITS:
        names = [name for name, each in given.items() if each == split]
        as_said = all(name.lower() in (split, "val") for name in names)
        if names:
            found.append(some([f"{name}/" for name in names]) + ("" if as_said else f" ({split})"))
    folds = ", folds kept whole" if any(fold_number(name) is not None for name in given) else ""
    drawn = [split for split in ("validation", "test") if split not in given.values()]
    return ", ".join(found) + folds + (f", {' and '.join(drawn)} drawn from train" if drawn else "")


def _shown(tree: Tree, folder: Folder) -> str:
    return str(tree.root / folder.path)
