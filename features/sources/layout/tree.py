"""A folder looked at once: which files may be images, and how many others lie there, which systems and tools left."""

from __future__ import annotations

import errno
import os
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from features.errors import SourceError, counted
from features.sources.files import IMAGE_SUFFIX, file_stamp
from features.sources.layout.words import masks_among
from features.sources.source import OnListed
from features.storage import MARK
from features.stores import is_remote, listed

LITTER = {
    "macOS": r"\._.*|\.ds_store|\.appledouble|\.trashes|\.spotlight-v100|\.fseventsd|__macosx|icon\r",
    "Windows": r"thumbs\.db|ehthumbs\.db|desktop\.ini|\$recycle\.bin|system volume information",
    "Synology": r"@eadir|#recycle|#snapshot|@tmp",
    "QNAP": r"\.@__thumb|@recycle|@recently-snapshot",
    "Jupyter": r"\.ipynb_checkpoints",
    "Dropbox": r"\.dropbox(?:\..*)?",
    "Linux": r"\.trash-\d+|lost\+found",
    "": r"\..*",
}
"""Names, in lower case, of what each system leaves behind; whatever else is hidden comes last."""

NO_IMAGES = re.compile(
    r"""
    txt|md|rst|log|json|jsonl|csv|tsv|xml|html|htm|css|js|yaml|yml|toml|ini|cfg|pdf|doc|docx|xls|xlsx|ppt|pptx|odt|ods|
    rtf|tex|bib|mat|npy|npz|pkl|pickle|parquet|arrow|feather|h5|hdf5|tfrecord|db|sqlite|py|pyc|ipynb|r|m|sh|bat|zip|tar|
    gz|tgz|bz2|xz|zst|rar|7z|mp3|wav|flac|mp4|m4v|avi|mov|mkv|webm|pt|pth|onnx|safetensors|joblib|lnk|url|lock|md5|sha256
    """,
    re.VERBOSE,
)
"""Suffixes of what lies beside images and is none; a file with any other suffix is tried."""

NO_IMAGES_EITHER = re.compile("licen[sc]e|readme|copying|authors|changelog|notice|citation|version|makefile")
"""Names without a suffix, in lower case, of what is no image either."""

DATA = re.compile(rf".*({IMAGE_SUFFIX.pattern}|\.(csv|tsv|parquet))", re.IGNORECASE)
"""Names of files that are images or lists of some, beyond doubt."""

_LITTER = re.compile("|".join(f"({names})" for names in LITTER.values()), re.DOTALL)

Identity = tuple[int, int]
"""Which folder it is, by whatever path: its device and its number there."""


@dataclass(eq=False, kw_only=True)
class Folder:
    """One folder: `path` from the root on, with slashes; `files` as (name, stamp); `images`: how many are below it."""

    path: str
    identity: Identity
    above: Folder | None = None
    in_link: bool = False
    files: list[tuple[str, str]] = field(default_factory=list)
    folders: list[Folder] = field(default_factory=list)
    others: Counter[str] = field(default_factory=Counter)
    images: int = 0

    @property
    def name(self) -> str:
        return self.path.rpartition("/")[2]

    def line(self) -> Iterator[Folder]:
        """This folder and those that it is in."""
        folder: Folder | None = self
        while folder is not None:
            yield folder
            folder = folder.above

    def filled(self) -> list[Folder]:
        """The folders in it that hold images."""
        return [folder for folder in self.folders if folder.images]

    def walk(self) -> Iterator[Folder]:
        """This folder and all below, each before what is in it."""
        waiting = [self]
        while waiting:
            folder = waiting.pop()
            yield folder
            waiting += reversed(folder.folders)

    def images_below(self) -> Iterator[tuple[str, str]]:
        """Path from the root on, and stamp, of each file that may be an image."""
        for folder in self.walk():
            for name, stamp in folder.files:
                yield f"{folder.path}/{name}" if folder.path else name, stamp


@dataclass(frozen=True, kw_only=True)
class Tree:
    """What is below `root`, what was left out of it (files by who left them, pipes, links), and what it lies in."""

    root: Path
    top: Folder
    around: frozenset[Identity]
    litter: Counter[str]
    oddities: Counter[tuple[str, str]]

    def left_out(self) -> list[str]:
        """What was left out, in words."""
        makers = sorted((maker for maker in self.litter if maker), key=str.lower)
        found = {
            ("hidden file", ""): self.litter[""],
            ("file", f" of {', '.join(makers)}"): sum(self.litter[maker] for maker in makers),
            ("other file", ""): sum(sum(folder.others.values()) for folder in self.top.walk()),
            **self.oddities,
        }
        return [f"{counted(count, what)}{which} left out" for (what, which), count in found.items() if count]


def holds_data(folder: Path, besides: str | tuple[str, ...] = ()) -> bool:
    """Whether files called like images or lists are at or below `folder`, other than with the endings `besides`."""
    if is_remote(folder):
        every = (name for files in listed(folder).values() for name, _ in files)
    else:
        every = (name for _, _, names in os.walk(folder) for name in names)
    found = (name.lower() for name in every if DATA.fullmatch(name))
    return any(litter_of(name) is None and not name.endswith(besides) for name in found)


def scan(root: Path, on_listed: OnListed = lambda _: None) -> Tree:
    """Look at all below `root` once; links are followed, but never back up.

    Raises SourceError for a folder that cannot be listed or entered: its images would be missed.
    """
    tree = _scan_store(root, on_listed) if is_remote(root) else _scan_disk(root, on_listed)
    for folder in reversed(list(tree.top.walk())):
        _leave_masks(folder, tree)
        folder.images = len(folder.files) + sum(below.images for below in folder.folders)
    return tree


def _scan_disk(root: Path, on_listed: OnListed) -> Tree:
    """What is below a folder of this machine."""
    top = Folder(path="", identity=_identity(root))
    around = [parent.stat() for parent in root.resolve().parents if os.access(parent, os.F_OK)]
    seen = {(status.st_dev, status.st_ino) for status in around}
    tree = Tree(root=root, top=top, around=frozenset(seen), litter=Counter(), oddities=Counter())
    for folder in top.walk():  # which comes to what is found in it
        seen.add(folder.identity)
        entries = _entries(root / folder.path)
        for entry in entries:
            _sort(entry, folder, tree, seen)
        on_listed(len(entries))
    return tree


def _scan_store(root: Path, on_listed: OnListed) -> Tree:
    """As `_scan_disk`, of a place in a store: one listing has all files, and there are no links."""
    files = listed(root)
    marked = {path for path, inside in files.items() if path and any(name == MARK for name, _ in inside)}
    folders = {"": Folder(path="", identity=(-1, 0))}
    tree = Tree(root=root, top=folders[""], around=frozenset(), litter=Counter(), oddities=Counter())
    for path in sorted(files, key=lambda path: path.split("/")):
        names = path.split("/") if path else []
        line = ["/".join(names[:depth]) for depth in range(1, len(names) + 1)]
        makers = ("treehead" if each in marked else litter_of(name) for name, each in zip(names, line, strict=True))
        maker = next((maker for maker in makers if maker is not None), None)
        if maker is not None:
            tree.litter[maker] += len(files[path])
            continue
        for above, below in pairwise(["", *line]):
            if below not in folders:
                folders[below] = Folder(path=below, identity=(-1, len(folders)), above=folders[above])
                folders[above].folders.append(folders[below])
        for name, changed in sorted(files[path]):
            maker = litter_of(name)
            if maker is not None:
                tree.litter[maker] += 1
            elif other := _other(name):
                folders[path].others[other] += 1
            else:
                folders[path].files.append((name, changed))
        on_listed(len(files[path]))
    return tree


def _sort(entry: os.DirEntry[str], folder: Folder, tree: Tree, seen: set[Identity]) -> None:
    """Put one entry of `folder` where it belongs."""
    path, link = Path(entry.path), entry.is_symlink()
    is_folder = path.is_dir() if link else entry.is_dir()  # a link may lead in a circle
    maker, other = litter_of(entry.name), _other(entry.name)
    if maker is None and is_folder and os.access(path / MARK, os.F_OK):  # of a closed folder it is not known
        maker = "treehead"
    if maker is not None:
        tree.litter[maker] += 1 if link or not entry.is_dir() else sum(len(names) for _, _, names in os.walk(path))
    elif is_folder:
        inner = f"{folder.path}/{entry.name}" if folder.path else entry.name
        below = Folder(path=inner, identity=_identity(path), above=folder, in_link=folder.in_link or link)
        if link and not _leads_on(below, folder, tree, seen):
            tree.oddities["link", " to folders above or read already"] += 1
        else:
            folder.folders.append(below)
    elif other:
        folder.others[other] += 1
    elif (path.exists() and not path.is_file()) if link else not entry.is_file():
        tree.oddities["pipe", ", sockets or devices"] += 1
    else:
        folder.files.append((entry.name, file_stamp(path)))


def _other(name: str) -> str:
    """What a file that is no image by its name is counted as; empty for all that may be one."""
    if "." not in name:
        return name if NO_IMAGES_EITHER.fullmatch(name.lower()) else ""
    suffix = name.rpartition(".")[2]
    return f".{suffix.lower()}" if NO_IMAGES.fullmatch(suffix.lower()) else ""


def _leave_masks(folder: Folder, tree: Tree) -> None:
    """Leave out the folders of masks and annotations beside one of images."""
    masks = masks_among([below.name for below in folder.filled()])
    for below in folder.folders:
        if below.name in masks:
            tree.oddities["file", f" in folders called {below.name}"] += below.images
    folder.folders = [below for below in folder.folders if below.name not in masks]


def _leads_on(below: Folder, folder: Folder, tree: Tree, seen: set[Identity]) -> bool:
    """Whether a link is to be followed: not back up, and from within a linked folder only to what is new."""
    known = seen if folder.in_link else {above.identity for above in folder.line()}
    return below.identity not in known | tree.around


def litter_of(name: str) -> str | None:
    """Which system leaves files or folders of this name behind; empty for what is hidden, None for all others."""
    found = _LITTER.fullmatch(name.lower())
    return list(LITTER)[found.lastindex - 1] if found and found.lastindex else None


def _entries(path: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(path) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        raise _refused(path, error) from error


def _identity(path: Path) -> Identity:
    """Which folder this is, by whatever path; raises SourceError where it may not be entered."""
    try:
        status = path.stat()
        if not os.access(path, os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as error:
        raise _refused(path, error) from error
    return status.st_dev, status.st_ino


def _refused(path: Path, error: OSError) -> SourceError:
    return SourceError(f"cannot list {path} ({error.strerror}): check its permissions")
