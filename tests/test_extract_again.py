"""An extraction beside another, after one that was killed, and over files that are damaged."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from features import locks
from features.errors import SourceError
from features.extract import extract
from features.table import shard
from features.timing import Timing
from tests.conftest import make_tiny_trunk, write_images
from tests.test_extract import contents, photos_source, run, unreadable
from tests.test_table import damage


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, count in {"LEAST_IMAGES": 10, "LIKELY_IMAGES": 15, "MOST_IMAGES": 40}.items():
        monkeypatch.setattr(shard, name, count)


def test_of_two_runs_at_once_one_works_and_the_other_finds_it_done(photos: Path, tmp_path: Path) -> None:
    with ThreadPoolExecutor(2) as pool:
        both = [pool.submit(run, photos, tmp_path / "out", trunk=make_tiny_trunk("pool", "early")) for _ in range(2)]
    assert sorted(each.result().extracted for each in both) == [0, 120]
    run(photos, tmp_path / "alone", trunk=make_tiny_trunk("pool", "early"))
    assert contents(tmp_path / "out") == contents(tmp_path / "alone")


def test_tables_are_locked_in_one_order_whichever_is_asked_for_first(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[Path] = []
    whole = locks.locked

    @contextmanager
    def locked(folder: Path) -> Iterator[None]:
        taken.append(folder)
        with whole(folder):
            yield

    monkeypatch.setattr("features.extract.locked", locked)
    for nodes in (("pool", "early"), ("early", "pool")):
        trunk = make_tiny_trunk("pool", "early")
        order = [trunk.specs.index(spec) for node in nodes for spec in trunk.specs if spec.node == node]
        trunk.specs = tuple(trunk.specs[place] for place in order)
        trunk.dims = tuple(trunk.dims[place] for place in order)
        extract(photos_source(photos), [trunk], tmp_path, max_bad=0, on_images=lambda _: None)
    assert taken[:2] == taken[2:] == sorted(taken[:2])


def test_a_damaged_shard_is_made_anew_and_the_others_are_kept(
    photos: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = run(photos, tmp_path / "out").tables[0].folder
    undisturbed = contents(folder)
    first, second, *_ = sorted(folder.glob("part-*.parquet"))
    damage(second)
    kept = first.stat().st_mtime_ns
    assert 0 < run(photos, tmp_path / "out").extracted <= 40
    assert first.stat().st_mtime_ns == kept
    assert contents(folder) == undisturbed
    (message,) = caplog.messages
    assert message == f"{second} is damaged (it is not the file that manifest.json names): it is made anew"


def test_a_damaged_shard_is_not_forgotten_by_a_run_that_ends_early(photos: Path, tmp_path: Path) -> None:
    folder = run(photos, tmp_path / "out").tables[0].folder
    undisturbed = contents(folder)
    damage(folder / "part-00001.parquet")
    with pytest.raises(SourceError, match=r"could not be read"):
        extract(unreadable(photos, 60), [make_tiny_trunk()], tmp_path / "out", max_bad=0, on_images=lambda _: None)
    assert run(photos, tmp_path / "out", retry_bad=True).extracted > 0
    assert contents(folder) == undisturbed


def test_a_damaged_shard_of_an_earlier_table_is_not_taken_over(photos: Path, tmp_path: Path) -> None:
    earlier = run(photos, tmp_path / "out").tables[0]
    for path in earlier.shards:
        damage(path)
    write_images(photos / "red", "red", 1, start=77)
    assert run(photos, tmp_path / "out").reused == 0


@pytest.mark.parametrize("missing", ["part-00001.parquet", "errors.parquet"])
def test_a_file_that_is_missing_is_made_anew(missing: str, photos: Path, tmp_path: Path) -> None:
    folder = run(photos, tmp_path / "out").tables[0].folder
    undisturbed = contents(folder)
    (folder / missing).unlink()
    assert run(photos, tmp_path / "out").extracted <= 40
    assert contents(folder) == undisturbed


@pytest.mark.parametrize("name", ["a?b=c", "a%20b", "~", "~root", "a:b", "a#b", "s3:", "a::b", "a{b}"])
def test_no_letter_of_a_path_means_another_thing(
    name: str, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    before = {*tmp_path.iterdir()}
    done = run(photos, Path(name))
    assert len(done.tables[0].read("train")) == done.tables[0].rows["train"]
    assert len(done.tables[0].index()) == 120
    assert len(done.tables[0].ledger()) == 0
    assert {*tmp_path.iterdir()} - before == {tmp_path / name}


def test_what_a_table_took_is_kept_however_often_its_run_is_killed(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    def kill(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr("features.table.writer.write_shard", kill)
        with pytest.raises(Killed):
            run(photos, tmp_path)
    (folder,) = tmp_path.glob("*-tiny-*")
    begun = Timing.read(folder)
    assert begun
    assert 0 < begun.images <= 120
    with monkeypatch.context() as patch:
        patch.setattr("features.extract.TableWriter.finish", kill)
        with pytest.raises(Killed):
            run(photos, tmp_path)
    made = Timing.read(folder)
    assert made
    assert made.images == begun.images + 120
    assert made.seconds > begun.seconds > 0
    assert made.stages["forward"] > begun.stages["forward"] > 0
    assert run(photos, tmp_path).extracted == 0
    assert Timing.read(folder) == made


@pytest.mark.parametrize("text", ["", "{}", '{"images": "many"}', "[1]"])
def test_a_time_that_cannot_be_read_is_not_known(text: str, tmp_path: Path) -> None:
    assert Timing.read(tmp_path) is None
    (tmp_path / "timing.json").write_text(text)
    assert Timing.read(tmp_path) is None
