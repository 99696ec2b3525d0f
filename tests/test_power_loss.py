"""A power failure at any moment of an extraction: no manifest on the disk names a file that is not whole there."""

from __future__ import annotations

import json
import os
import stat
import threading
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from features import storage
from features.extract import extract
from features.sources.source import Payload
from features.table import shard
from tests.conftest import make_tiny_trunk, write_images
from tests.test_extract import photos_source

File = tuple[int, int]
"""A file on a disk: its inode, and the how-manyeth it is that has it."""

GONE: File = (0, 0)

Names = dict[str, File]
"""A folder as a disk has it: the file that each name stands for."""


class Disk:
    """What the disk holds for sure: files as they were last synced, names as their folder was.

    What has been named since then may be there or not, one name or the other.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._bytes: dict[File, bytes] = defaultdict(bytes)
        self._made: Counter[int] = Counter()
        self._names: dict[Path, Names] = defaultdict(dict)
        self._since: dict[Path, list[Names]] = defaultdict(list)
        self._one = threading.RLock()
        self.manifests = 0
        self._calls = {name: getattr(os, name) for name in ("open", "fsync", "replace", "unlink")}
        for name in self._calls:
            monkeypatch.setattr(os, name, getattr(self, name))

    def open(self, path: Any, flags: int, *rest: Any, **options: Any) -> int:
        handle: int = self._calls["open"](path, flags, *rest, **options)
        if flags & os.O_CREAT:
            self._made[os.fstat(handle).st_ino] += 1
        return handle

    def fsync(self, handle: int) -> None:
        with self._one:
            about = os.fstat(handle)
            path = Path(f"/proc/self/fd/{handle}").resolve()
            if stat.S_ISDIR(about.st_mode):
                for change in self._since.pop(path, []):
                    self._names[path] |= change
            else:
                self._bytes[self._file(about)] = path.read_bytes()
            self._check()

    def replace(self, source: Path, target: Path) -> None:
        with self._one:
            file = self._file(Path(source).stat())
            self._calls["replace"](source, target)
            self._since[Path(target).parent].append({Path(target).name: file})
            self._check()

    def unlink(self, path: Path, **options: Any) -> None:
        with self._one:
            self._calls["unlink"](path, **options)
            self._since[Path(path).parent].append({Path(path).name: GONE})
            self._check()

    def _file(self, about: os.stat_result) -> File:
        return about.st_ino, self._made[about.st_ino]

    def _check(self) -> None:
        for folder in {*self._names, *self._since}:
            for names in self._after_failure(folder):
                if names.get("manifest.json", GONE) != GONE:
                    self._check_manifest(names)

    def _after_failure(self, folder: Path) -> Iterator[Names]:
        """What `folder` may hold: none of what came since it was synced, all, one of it, all but one."""
        synced, since = self._names[folder], self._since[folder]
        kept = [set(range(len(since))), *({place} for place in range(len(since)))]
        for some in kept:
            for places in (some, kept[0] - some):
                names = dict(synced)
                for place in sorted(places):
                    names |= since[place]
                yield names

    def _check_manifest(self, names: Names) -> None:
        self.manifests += 1
        manifest = json.loads(self._bytes[names["manifest.json"]])
        for name, record in {**manifest["shards"], "errors.parquet": manifest["ledger"]}.items():
            found = sha256(self._bytes[names.get(name, GONE)]).hexdigest()
            assert found == record["sha256"], f"{name} is not what the manifest on the disk names"


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, count in {"LEAST_IMAGES": 10, "LIKELY_IMAGES": 15, "MOST_IMAGES": 40}.items():
        monkeypatch.setattr(shard, name, count)


def make_tables(photos: Path, root: Path) -> None:
    """Make tables that lack an image, with it, and of one image more."""
    source = photos_source(photos)
    bad = int(source.items.index[50])

    def read(row: int) -> Payload:
        if row == bad:
            raise OSError("the network drive is gone")
        return source.read(row)

    trunk = make_tiny_trunk("pool", "early")
    extract(replace(source, read=read), [trunk], root, max_bad=0.1, on_images=lambda _: None)
    extract(source, [trunk], root, max_bad=0, retry_bad=True, on_images=lambda _: None)
    write_images(photos / "red", "red", 1, start=77)
    extract(photos_source(photos), [trunk], root, max_bad=0, on_images=lambda _: None)


def test_a_manifest_on_the_disk_names_whole_files(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = Disk(monkeypatch)
    make_tables(photos, tmp_path / "out")
    assert disk.manifests > 100


@pytest.mark.parametrize("left_out", ["shards", "manifest", "folders"])
def test_any_sync_that_is_left_out_would_be_seen(
    left_out: str, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = storage._sync

    def sync(path: Path) -> None:
        what = "folders" if path.is_dir() else "manifest" if path.read_bytes()[:1] == b"{" else "shards"
        if what != left_out:
            whole(path)

    monkeypatch.setattr(storage, "_sync", sync)
    Disk(monkeypatch)
    with pytest.raises(
        (AssertionError, ValueError), match=r"is not what the manifest on the disk names|Expecting value"
    ):
        make_tables(photos, tmp_path / "out")
