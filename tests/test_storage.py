from __future__ import annotations

import resource
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import pytest

from features.errors import OutputError
from features.storage import Json, check_writable, digest, from_json, replacing, write_json


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
