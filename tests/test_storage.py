from __future__ import annotations

import os
import resource
import stat
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import pytest

from features.errors import OutputError
from features.storage import (
    Json,
    check_writable,
    digest,
    from_json,
    read_json,
    remove,
    replacing,
    sealed,
    unsealed,
    write_json,
)


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "kept.json"
    write_json(path, {"a": 1})
    before = path.read_bytes()

    def fail_half_way() -> None:
        with replacing(path) as scratch:
            scratch.write_text("half")
            raise ValueError("half way")

    with pytest.raises(ValueError, match=r"half way"):
        fail_half_way()
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError, match=r"cannot write .*File exists.*: free some space or choose another `out`"):
        write_json(tmp_path / "file" / "x.json", {})
    with pytest.raises(OutputError, match=r"cannot write to .*file/out .Not a directory.: choose another `out`"):
        check_writable(tmp_path / "file" / "out")


def test_a_disk_that_takes_no_more(tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        with pytest.raises(OutputError, match=r"cannot write .*big.json .File too large"):
            write_json(tmp_path / "big.json", "x" * 5000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_written_is_on_the_disk_before_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    fsync, replace, unlink = os.fsync, os.replace, os.unlink

    def synced(handle: int) -> None:
        done.append("sync folder" if stat.S_ISDIR(os.fstat(handle).st_mode) else f"sync {os.fstat(handle).st_size}")
        fsync(handle)

    def named(*paths: Path) -> None:
        done.append("name")
        replace(*paths)

    def removed(path: Path) -> None:
        done.append("remove")
        unlink(path)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "replace", named)
    monkeypatch.setattr(os, "unlink", removed)
    write_json(tmp_path / "x.json", "some text")
    assert done[:3] == ["sync 12", "name", "sync folder"]
    done.clear()
    remove(tmp_path / "x.json")
    assert done == ["remove", "sync folder"]
    assert list(tmp_path.iterdir()) == []


def test_what_others_put_in_the_way_is_neither_written_nor_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs = tmp_path / "theirs"
    theirs.write_text("of somebody else")
    monkeypatch.setattr("secrets.token_hex", lambda _: "guessed")
    (tmp_path / ".unfinished-guessed").symlink_to(theirs)
    with pytest.raises(OutputError, match=r"cannot write .*x.json \(File exists\)"):
        write_json(tmp_path / "x.json", {})
    assert theirs.read_text() == "of somebody else"


def test_scratch_files_have_short_names_that_nobody_guesses(tmp_path: Path) -> None:
    names = set()
    for _ in range(2):
        with replacing(tmp_path / ("x" * 255)) as scratch:
            names.add(scratch.name)
    assert len(names) == 2
    assert all(len(name) < 40 for name in names)


def test_a_file_has_the_permissions_that_the_person_asks_for(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_json(tmp_path / "x.json", {})
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "x.json").stat().st_mode) == 0o640


def test_what_was_sealed_tells_any_change() -> None:
    whole = sealed({"a": 1, "b": [2]}, "seal")
    assert unsealed(whole, "seal") == {"a": 1, "b": [2]}
    for changed in ({**whole, "a": 2}, {**whole, "c": 0}, {**whole, "seal": "0" * 64}, {"seal": whole["seal"]}):
        with pytest.raises(ValueError, match="it has been changed since it was written"):
            unsealed(changed, "seal")
    others: tuple[Json, ...] = ({"a": 1}, [], None, "text")
    for foreign in others:
        with pytest.raises(ValueError, match=r"^no seal$"):
            unsealed(foreign, "seal")


@pytest.mark.parametrize("content", [b"", b"{", b"[" * 100_000, b'"\xff"', b"9" * 5000])
def test_a_file_that_is_no_json(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "x.json").write_bytes(content)
    with pytest.raises(ValueError, match=r"^.+$"):
        read_json(tmp_path / "x.json")


def test_digest_does_not_depend_on_the_order_of_keys() -> None:
    assert digest({"a": 1, "b": [2]}) == digest({"b": [2], "a": 1}) != digest({"a": 1, "b": [3]})


@dataclass(frozen=True, kw_only=True)
class Part:
    share: float
    sizes: tuple[int, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Whole:
    name: str
    parts: tuple[Part, ...]
    said: Mapping[str, Json]


SAID: Mapping[str, Json] = {"x": [1, 2.0, None, {"y": True}]}
WHOLE: Mapping[str, Json] = {"name": "a", "parts": [{"share": 0.1 + 0.2, "sizes": [1, 2]}], "said": SAID}


def test_dataclasses_come_back_from_json_as_they_were() -> None:
    whole = from_json(Whole, WHOLE)
    assert whole == Whole(name="a", parts=(Part(share=0.1 + 0.2, sizes=(1, 2)),), said=SAID)
    assert digest(asdict(whole)) == digest(WHOLE)
    assert from_json(Part, {"share": 1}) == Part(share=1.0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": 5}, r"^name: .*string"),
        ({"more": 5}, r"^more: "),
        ({"parts": [{}]}, r"^parts.0.share: .*required"),
        ({"parts": [{"share": "1"}]}, r"^parts.0.share: .*number"),
        ({"parts": [{"share": 1.0, "sizes": [1.5]}]}, r"^parts.0.sizes.0: .*integer"),
    ],
)
def test_json_of_something_else_is_refused_by_the_field(changes: dict[str, Json], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        from_json(Whole, {**WHOLE, **changes})
    with pytest.raises(ValueError, match=r"^Whole: "):
        from_json(Whole, [1])
