from __future__ import annotations

import resource
from pathlib import Path

import pytest

from features.errors import OutputError
from features.storage import check_writable, digest, replacing, write_json


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
