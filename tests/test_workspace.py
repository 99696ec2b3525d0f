from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from models.columns.workspace import Workspace
from models.heads.registry import make_head
from tests.conftest import CPU
from tests.test_heads import MemoryTable, fit, toy_table


def rounded_table() -> MemoryTable:
    """Rows that float16 can hold."""
    table = toy_table()
    for split, rows in table.splits.items():
        table.splits[split] = replace(rows, x=rows.x.astype(np.float16).astype(np.float32))
    return table


def open_files(folder: Path) -> int:
    """How many files in `folder`, deleted ones included, this process holds open."""
    links = [link for link in Path("/proc/self/fd").iterdir() if link.is_symlink()]
    return sum(link.readlink().is_relative_to(folder) for link in links)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where temporary files lie."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def test_stored_rows_are_the_columns_of_a_split(workspace: Workspace) -> None:
    table = rounded_table()
    stored, rows = workspace.store(table, "train", np.array([3, 7])), table.read("train")
    assert np.array_equal(stored.read().numpy(), rows.x[:, [3, 7]])
    assert np.array_equal(stored.labels, rows.y)
    numbers = np.array([140, 2, 2])
    assert np.array_equal(stored.rows(numbers).numpy(), rows.x[numbers][:, [3, 7]])
    parts = [part for part, _ in stored.batches(64)]
    assert [(part.start, part.stop) for part in parts] == [(0, 64), (64, 128), (128, 150)]


def test_rows_are_looked_at_where_they_lie(workspace: Workspace) -> None:
    stored = workspace.store(rounded_table(), "train", np.arange(5))
    first, again = stored.read(), stored.read()
    assert first.data_ptr() == again.data_ptr()
    maps = [line.split() for line in Path("/proc/self/maps").read_text().splitlines()]
    (inode,) = [each[4] for each in maps if int(each[0].split("-")[0], 16) == first.data_ptr()]
    assert inode != "0"  # a file, no memory


def test_the_last_lessons_are_found_again(workspace: Workspace) -> None:
    table = toy_table()
    lessons = workspace.lessons(table, 20, 0)
    assert lessons.last.train.dim == lessons.last.validation.dim == 20
    assert workspace.lessons(table, 20, 0) is lessons
    assert workspace.lessons(toy_table(), 20, 0) is not lessons


def test_of_few_rows_each_is_unseen_once(workspace: Workspace) -> None:
    table = toy_table()
    lessons = workspace.lessons(table, 20, 0)
    index = table.index().set_index("key")
    learnt = index[index["split"] != "test"]
    assert sorted(lessons.keys) == sorted(learnt.index)
    assert np.array_equal(lessons.labels, learnt["label"].loc[lessons.keys.tolist()])
    assert [len(each.train) + len(each.validation) for each in lessons.tries] == [210, 210]
    assert lessons.whole
    assert (len(lessons.whole.train), len(lessons.whole.validation)) == (210, 0)


def test_of_many_rows_validation_is_unseen(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("models.columns.workspace.FEW_ROWS", 210)
    table = toy_table()
    lessons = workspace.lessons(table, 20, 0)
    assert lessons.whole is None
    assert lessons.last is lessons.tries[0]
    assert np.array_equal(lessons.keys, table.read("validation").keys)
    assert (len(lessons.last.train), len(lessons.last.validation)) == (150, 60)


@pytest.mark.parametrize("again", [(False, 10), (True, 20)])
def test_other_lessons_close_the_files_of_those_before(again: tuple[bool, int], folder: Path) -> None:
    table = toy_table()
    other, columns = again
    with Workspace() as workspace:
        stored = workspace.store(table, "train", np.arange(5))
        first = workspace.lessons(table, 20, 0)
        assert open_files(folder) == 7
        workspace.lessons(toy_table() if other else table, columns, 0)
        assert open_files(folder) == 7
        with pytest.raises(ValueError, match="closed file"):
            first.last.train.read()
        assert len(stored.read()) == 150


def test_it_leaves_no_file_open_and_none_behind(folder: Path) -> None:
    with Workspace() as workspace:
        last = workspace.lessons(toy_table(), 20, 0).last
        stored = workspace.store(toy_table(), "validation", np.arange(5))
        assert open_files(folder) == 7
        assert list(folder.iterdir()) == []  # a kill would leave nothing
    assert open_files(folder) == 0
    for rows in (last.train, stored):
        with pytest.raises(ValueError, match="closed file"):
            rows.read()


def test_what_goes_wrong_on_the_way_leaves_no_file_open(folder: Path) -> None:
    table = toy_table()
    del table.splits["validation"]
    with Workspace() as workspace, pytest.raises(KeyError):
        workspace.lessons(table, 20, 0)
    assert open_files(folder) == 0


@pytest.mark.parametrize("name", ["xgb", "hybrid"])
def test_a_fit_leaves_no_file_behind(name: str, folder: Path) -> None:
    head = make_head(name, seed=0, device=CPU)
    fit(head, toy_table(), lambda _: _expect_empty(folder))
    assert open_files(folder) == 0


def _expect_empty(folder: Path) -> None:
    assert list(folder.iterdir()) == []
