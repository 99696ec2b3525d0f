"""Tar files of images as WebDataset has them and img2dataset writes them, in a folder or named one by one.

Files of a tar whose names are the same up to the first dot are one sample: 0001.jpg with 0001.cls or 0001.json. Each
other file of a sample, and each field of its .json, is a column of it. Nothing is unpacked: an image is read where it
lies in the tar.
"""

from __future__ import annotations

import json
import re
import tarfile
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice, product
from pathlib import Path

import pandas as pd

from features.errors import SourceError, counted, first_line, some
from features.sources.columns import by_name, check_group, pick, roles_but_split
from features.sources.files import IMAGE_SUFFIX, read_part
from features.sources.layout.tree import holds_data, litter_of
from features.sources.layout.words import refuse_twice, says_split, splits_of
from features.sources.lists.values import class_names, group_names
from features.sources.options import SourceOptions
from features.sources.parquet.files import base_name, files_below
from features.sources.source import SPLITS, UNLABELLED, OnListed, Source, listing, name_classes
from features.stores import name_of

TAR, PACKED = ".tar", (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst")

BESIDE = (TAR, ".parquet", ".csv")
"""Endings of what lies in a folder of tars, among it the lists that img2dataset writes of them."""

FIRST_FILES = 300
"""So many files of the first tar tell which columns there are."""

MOST_OF_COLUMN = 2**16
"""Bytes of a file that can be a label or hold fields."""

_RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")


@dataclass(frozen=True, kw_only=True)
class _Wanted:
    """Which file of a sample is its image (empty: that which is called like one), and the columns to be read."""

    image: str
    label: str
    group: str

    def takes(self, suffix: str) -> bool:
        return suffix == self.image if self.image else bool(IMAGE_SUFFIX.fullmatch(f".{suffix}"))

    def reads(self, suffix: str) -> bool:
        """Whether a file may be or hold one of the columns."""
        return suffix in ("json", self.label, self.group) and bool(self.label or self.group)


@dataclass(kw_only=True)
class _Tar:
    """The samples of a tar that have an image: where it lies, by name; and what their columns hold, by sample."""

    path: Path
    names: list[str] = field(default_factory=list)
    samples: list[str] = field(default_factory=list)
    stamps: list[str] = field(default_factory=list)
    offsets: array[int] = field(default_factory=lambda: array("q"))
    sizes: array[int] = field(default_factory=lambda: array("q"))
    labels: dict[str, str] = field(default_factory=dict)
    groups: dict[str, str] = field(default_factory=dict)

    def read(self, number: int) -> bytes:
        """An image; raises as `read_part` does."""
        return read_part(self.path, self.offsets[number], self.sizes[number])


def looks_like_tars(path: Path) -> bool:
    """Whether this is a tar, a range of them as shards-{000..099}.tar, or a folder of tars without loose images."""
    if not path.is_dir():
        return path.name.lower().endswith((TAR, *PACKED)) and (path.is_file() or bool(_RANGE.search(path.name)))
    return bool(files_below(path, TAR)) and not holds_data(path, besides=BESIDE)


def open_tars(root: Path, asked: SourceOptions, on_listed: OnListed) -> Source:
    """List the samples of every tar.

    Raises SourceError for a tar that is packed or damaged, tars of a range that are not there, files of one name, or
    samples without a label among others that have one.
    """
    splits, left_out = _splits(root, _files(root))
    wanted = _wanted(root, next(iter(splits)), asked)
    tars = [_listed(path, wanted, on_listed) for path in splits]
    labels = pd.Series([tar.labels.get(each) for tar in tars for each in tar.samples], dtype=object, name="label")
    classes, numbers = _classes(root, labels)
    groups = pd.Series([tar.groups.get(each) for tar in tars for each in tar.samples], dtype=object)
    top = root if root.is_dir() else root.parent
    places = [(tar, number) for tar in tars for number in range(len(tar.names))]
    return Source(
        name=_name(root),
        classes=classes,
        items=listing(
            [f"{tar.path.relative_to(top).as_posix()}/{name}" for tar in tars for name in tar.names],
            [splits[tar.path] if classes else "train" for tar in tars for _ in tar.names],
            numbers,
            [stamp for tar in tars for stamp in tar.stamps],
            group_names(groups) if wanted.group else None,
        ),
        read=lambda row: places[row][0].read(places[row][1]),
        layout=_say(splits, wanted, classes, left_out),
    )


def _name(root: Path) -> str:
    """What a set is called: its folder, or its tar without the numbers."""
    name = _RANGE.sub("", root.name).removesuffix(TAR).strip("-_.")
    return name_of(root) if root.is_dir() else name or name_of(root.parent)


def _files(root: Path) -> list[Path]:
    """The tars that `root` names; raises SourceError for one that is packed, and for some that are not there."""
    if root.name.lower().endswith(PACKED):
        raise SourceError(f"{root} is packed, so no image can be read where it lies: unpack it to {TAR}")
    if root.is_dir():
        return files_below(root, TAR)
    files = [root.with_name(name) for name in _names_of_range(root.name)]
    absent = [path.name for path in files if not path.is_file()]
    if absent:
        raise SourceError(
            f"{len(absent)} of the {len(files)} files of {root} are not there ({some(absent)}): fetch them"
        )
    return files


def _names_of_range(name: str) -> list[str]:
    """The names that one with ranges in it stands for.

    >>> _names_of_range("train-{08..10}.tar")
    ['train-08.tar', 'train-09.tar', 'train-10.tar']
    """
    first, *rest = _RANGE.split(name)
    parts = [rest[at : at + 3] for at in range(0, len(rest), 3)]
    ranges = [[f"{n:0{len(low)}d}{after}" for n in range(int(low), int(high) + 1)] for low, high, after in parts]
    return [first + "".join(each) for each in product(*ranges)]


def _splits(root: Path, files: Sequence[Path]) -> tuple[dict[Path, str], list[str]]:
    """The split of each tar by its name or its folder's, and what is left out; all are train where none says more."""
    called = {path: _called(path) for path in files}
    given = splits_of(sorted(set(called.values())))
    if not given:
        return dict.fromkeys(files, "train"), []
    refuse_twice(str(root), given)
    left_out = sorted(set(called.values()) - set(given))
    return {path: given[name] for path, name in called.items() if name in given}, left_out


def _called(path: Path) -> str:
    """What a tar is called without its number, or its folder where that says its split or the tar has no other name."""
    name = base_name(path)
    return next(filter(says_split, (name, path.parent.name)), name or path.parent.name)


def _wanted(root: Path, first: Path, asked: SourceOptions) -> _Wanted:
    """What is read of each sample, by the columns that the first ones have."""
    by_role = roles_but_split(asked.columns)
    found = (_fields(file) for file in islice(_files_in(first), FIRST_FILES))
    columns = sorted({column for fields in found for column in fields})
    label = pick(str(root), columns, "label", by_role, *by_name(columns, "label"))
    check_group(str(root), columns, asked.group_column)
    return _Wanted(image=by_role.get("path", ""), label=label, group=asked.group_column)


@dataclass(frozen=True, kw_only=True)
class _File:
    """A file in an open tar: its name, the sample it is of, and what follows the first dot of its name."""

    tar: tarfile.TarFile
    about: tarfile.TarInfo
    name: str
    sample: str
    suffix: str


def _files_in(path: Path) -> Iterator[_File]:
    """The files in a tar, in order, but for those that systems left; raises SourceError for a tar that is damaged."""
    try:
        with path.open("rb") as whole, tarfile.open(fileobj=whole, mode="r:") as tar:
            for about in tar:
                name = about.name.removeprefix("./")
                if about.isreg() and all(litter_of(part) is None for part in name.split("/")):
                    folder, slash, last = name.rpartition("/")
                    stem, _, suffix = last.partition(".")
                    yield _File(tar=tar, about=about, name=name, sample=folder + slash + stem, suffix=suffix.lower())
            whole.seek(tar.offset)
            if any(whole.read(tarfile.BLOCKSIZE) or b"?"):  # zeros end a tar
                raise tarfile.ReadError("it is cut short")
    except (OSError, tarfile.TarError) as error:
        raise SourceError(f"cannot read {path} ({first_line(error)}): fetch the file again") from error


def _fields(file: _File) -> dict[str, str]:
    """The columns that a file beside an image is, or holds: none where it is neither text nor fields."""
    content = file.tar.extractfile(file.about) if file.about.size <= MOST_OF_COLUMN else None
    if content is None or IMAGE_SUFFIX.fullmatch(f".{file.suffix}"):
        return {}
    try:
        text = content.read().decode()
        held = json.loads(text) if file.suffix == "json" else {file.suffix: text.strip()}
    except (ValueError, RecursionError):
        return {}
    fields = held if isinstance(held, dict) else {}
    return {name: str(value) for name, value in fields.items() if isinstance(value, str | int | float)}


def _listed(path: Path, wanted: _Wanted, on_listed: OnListed) -> _Tar:
    tar, seen = _Tar(path=path), set[str]()
    for file in _files_in(path):
        if file.name in seen:
            raise SourceError(f"{path} has {file.name} more than once: make it anew")
        seen.add(file.name)
        if wanted.takes(file.suffix):
            tar.names.append(file.name)
            tar.samples.append(file.sample)
            tar.stamps.append(f"{file.about.size}:{file.about.mtime:.0f}")
            tar.offsets.append(file.about.offset_data)
            tar.sizes.append(file.about.size)
            on_listed(1)
        elif wanted.reads(file.suffix):
            fields = _fields(file)
            tar.labels |= {file.sample: fields[wanted.label]} if wanted.label in fields else {}
            tar.groups |= {file.sample: fields[wanted.group]} if wanted.group in fields else {}
    return tar


def _classes(root: Path, labels: pd.Series) -> tuple[tuple[str, ...], list[int]]:
    if labels.notna().any():
        return name_classes(class_names(root, labels))
    return (), [UNLABELLED] * len(labels)


def _say(splits: dict[Path, str], wanted: _Wanted, classes: tuple[str, ...], left_out: Sequence[str]) -> str:
    """The line on how the images were found."""
    found = [split for split in SPLITS if split in splits.values()]
    label = f"label in {wanted.label}" if wanted.label else "no .cls, and no label in .json"
    said = [*found, counted(len(splits), "tar"), label, counted(len(classes), "class") if classes else "no labels"]
    return ", ".join(said) + (f"; {some(left_out)} left out" if left_out else "")
