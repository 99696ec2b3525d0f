"""Which Parquet files of a Hugging Face set are to be read, and as which split: a repository, a config, or one file."""

from __future__ import annotations

import logging
import os
import re
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from features.errors import SourceError, some
from features.sources.layout.tree import litter_of
from features.sources.layout.words import fold_number, parse, refuse_twice, says_split, splits_of
from features.sources.source import SPLITS
from features.stores import is_remote, keys_below, name_of

logger = logging.getLogger(__name__)

DEEPEST = 5
"""Folders in folders that are looked into for such files."""

PARQUET = ".parquet"

_NAME = re.compile(r"(?P<base>.*?)(-(?P<part>\d{5})-of-(?P<parts>\d{5}))?(-[0-9a-f]{8,})?")


@dataclass(frozen=True, kw_only=True)
class SplitFiles:
    """The files of each split, by what the set calls it; which config that is; the splits that are left out."""

    files: dict[str, list[Path]]
    splits: dict[str, str]
    config: str
    left_out: list[str]


def files_below(root: Path, suffix: str) -> list[Path]:
    """The files of a suffix at or below `root`, hidden ones left out; none for what cannot be listed."""
    if root.is_file():
        return [root] if root.suffix.lower() == suffix else []
    if is_remote(root):
        return sorted(root / key for key, _ in keys_below(root) if _is_wanted(key, suffix))
    found: list[Path] = []
    for parent, folders, names in os.walk(root):
        deep = len(Path(parent).relative_to(root).parts) >= DEEPEST
        folders[:] = [] if deep else [name for name in folders if litter_of(name) is None]
        found += [Path(parent, name) for name in names if name.lower().endswith(suffix) and litter_of(name) is None]
    return sorted(found)


def _is_wanted(place: str, suffix: str) -> bool:
    """Whether a file has this suffix and is neither hidden nor too deep, by its name and the folders it is in."""
    names = place.split("/")
    shown = all(litter_of(name) is None for name in names)
    return shown and place.lower().endswith(suffix) and len(names) <= DEEPEST + 1


def find_splits(root: Path, files: list[Path], config: str) -> SplitFiles:
    """Sort `files` into splits, of one config.

    The split is the first word of a file's name, or its folder. Raises SourceError for several configs of which none
    is asked for, names without a split, and two splits that are the same.
    """
    placed = {path: _place(root, path) for path in files}
    config = _choose(root, sorted({where for where, _ in placed.values()}), config)
    found: dict[str, list[Path]] = defaultdict(list)
    for path, (where, split) in placed.items():
        if where == config:
            found[split].append(path)
    splits = _name_splits(root, found)
    for name in splits:
        _say_missing(found[name])
    left_out = [name for name in found if name not in splits]
    return SplitFiles(files={name: found[name] for name in splits}, splits=splits, config=config, left_out=left_out)


def _place(root: Path, path: Path) -> tuple[str, str]:
    """The config and the split of a file, by its name and the folders that it is in."""
    folders = [name for name in path.relative_to(root).parts[:-1] if name.lower() != "data"] if path != root else []
    split, top = base_name(path), name_of(root)
    if says_split(split):
        folders = [name for name in folders if parse(name)[0] != parse(split)[0] or not parse(split)[0]]
    elif folders and says_split(folders[-1]):
        split = folders.pop()
    else:
        split = top if not folders and path != root and says_split(top) else ""
    return "/".join(folders), split


def base_name(path: Path) -> str:
    """A file's name without its number and checksum: train of train-00000-of-00004-2b0c4ecb3d6a1e5f.parquet."""
    matched = _NAME.fullmatch(path.stem)
    base = matched["base"] if matched else path.stem
    return base if fold_number(base) is not None else re.sub(r"[-_. ]?\d+$", "", base)


def _choose(root: Path, configs: list[str], asked: str) -> str:
    if asked and asked not in configs:
        named = some([name for name in configs if name]) or "none"
        raise SourceError(f"{root} has no config {asked!r}: expected one of {named}")
    if asked or len(configs) == 1:
        return asked or configs[0]
    choices = some([name or "its top folder" for name in configs])
    example = next(name for name in configs if name)
    raise SourceError(f"{root} holds {len(configs)} configs ({choices}): give one of them, such as `config={example}`")


def _name_splits(root: Path, found: dict[str, list[Path]]) -> dict[str, str]:
    """The split that each name of one means; raises SourceError where there is none, or two are the same."""
    if list(found) == [""] and found[""] == [root]:
        return {"": "train"}
    splits = splits_of(list(found))
    if not splits:
        path = next(iter(found.values()))[0]
        raise SourceError(f"{path} does not begin with its split: expected a name such as train-00000-of-00004.parquet")
    refuse_twice(str(root), splits)
    return dict(sorted(splits.items(), key=lambda each: (SPLITS.index(each[1]), each[0])))


def _say_missing(files: list[Path]) -> None:
    """Warn of parts that are not there: 00001 of 00003."""
    numbered = [matched for path in files if (matched := _NAME.fullmatch(path.stem)) and matched["parts"]]
    parts = max((int(matched["parts"]) for matched in numbered), default=0)
    missing = sorted({f"{part:05}" for part in range(parts)} - {matched["part"] for matched in numbered})
    if missing:
        logger.warning(
            "%s: %d of %d parts are not there (%s): fetch them, or the images in them are missed",
            files[0].parent / numbered[0]["base"],
            len(missing),
            parts,
            some(missing),
        )
