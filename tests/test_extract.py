from __future__ import annotations

import logging
import subprocess
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from features.errors import OutputError, SourceError, TrunkError
from features.extract import Extraction, extract
from features.sources.registry import open_source
from features.sources.source import Payload, Source
from features.table import shard
from features.table.joined import JoinedTable
from features.trunk.trunk import Trunk
from tests.conftest import make_tiny_trunk, write_images


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, count in {"LEAST_IMAGES": 10, "LIKELY_IMAGES": 15, "MOST_IMAGES": 40}.items():
        monkeypatch.setattr(shard, name, count)


def photos_source(photos: Path) -> Source:
    return open_source(str(photos))


def run(photos: Path, root: Path, *, trunk: Trunk | None = None, max_bad: float = 0.01, **options: Any) -> Extraction:
    source = photos_source(photos)
    return extract(source, [trunk or make_tiny_trunk()], root, max_bad=max_bad, on_images=lambda _: None, **options)


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below `folder` by its path, hidden ones as well, but for how long it took to make them."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != "timing.json")
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def rows_and_errors(done: Extraction) -> int:
    return sum(done.tables[0].rows.values()) + done.tables[0].errors


def test_same_inputs_same_bytes(photos: Path, tmp_path: Path, engine: str) -> None:
    (photos / "red" / "notes").write_text("no image")
    for name in ("first", "second"):
        run(photos, tmp_path / name, trunk=make_tiny_trunk(engine=engine), max_bad=0.1)
    assert contents(tmp_path / "first") == contents(tmp_path / "second")


def test_finished_shards_are_not_redone(photos: Path, tmp_path: Path) -> None:
    folder = run(photos, tmp_path / "out").tables[0].folder
    undisturbed = contents(folder)
    first, second, third, *_ = sorted(folder.glob("part-*.parquet"))
    for path in (folder / "manifest.json", folder / "errors.parquet", second):
        path.unlink()
    third.write_bytes(third.read_bytes()[:-100])
    (folder / ".unfinished-part-00007.parquet.99").write_bytes(b"half")
    kept = first.stat().st_mtime_ns
    done = run(photos, tmp_path / "out")
    assert done.extracted + done.reused == 120
    assert 20 <= done.extracted <= 80
    assert first.stat().st_mtime_ns == kept
    assert contents(folder) == undisturbed


def test_shards_of_another_table_are_not_taken(photos: Path, tmp_path: Path) -> None:
    folder = run(photos, tmp_path / "out").tables[0].folder
    other = run(photos, tmp_path / "other", trunk=make_tiny_trunk("other")).tables[0].folder
    undisturbed = contents(folder)
    (folder / "manifest.json").unlink()
    (folder / "part-00001.parquet").write_bytes((other / "part-00001.parquet").read_bytes())
    run(photos, tmp_path / "out")
    assert contents(folder) == undisturbed


def test_an_added_image_costs_its_own_shards(photos: Path, tmp_path: Path) -> None:
    before = contents(run(photos, tmp_path / "out").tables[0].folder)
    write_images(photos / "red", "red", 1, start=77)
    done = run(photos, tmp_path / "out")
    assert 1 <= done.extracted <= 80
    assert done.extracted + done.reused == 121
    assert contents(done.tables[0].folder) == contents(run(photos, tmp_path / "afresh").tables[0].folder)
    (photos / "red" / "077.png").unlink()
    assert contents(run(photos, tmp_path / "out").tables[0].folder) == before


def test_a_new_class_renumbers_the_labels_and_costs_its_own_shards(photos: Path, tmp_path: Path) -> None:
    run(photos, tmp_path / "out")
    write_images(photos / "amber", "red", 3)
    done = run(photos, tmp_path / "out")
    assert 3 <= done.extracted < 123
    assert done.extracted + done.reused == 123
    assert contents(done.tables[0].folder) == contents(run(photos, tmp_path / "afresh").tables[0].folder)


def test_shards_follow_the_keys_not_their_number() -> None:
    items = photos_like([f"{number:05d}" for number in range(400)])
    before = [tuple(part["key"]) for part in shard.cut_into_shards(items)]
    after = [tuple(part["key"]) for part in shard.cut_into_shards(photos_like(["000005x", *items["key"]]))]
    assert [key for part in before for key in part] == items["key"].tolist()
    assert all(len(part) <= 40 for part in before)
    assert all(len(part) >= 10 for part in before[:-1])
    assert len(set(before) - set(after)) <= 3


def photos_like(keys: Sequence[str]) -> Any:
    import pandas as pd

    return pd.DataFrame({"key": sorted(keys)})


def test_a_disk_that_fills_up_loses_nothing(photos: Path, tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(small)], capture_output=True)
    if mounted.returncode:
        pytest.skip("only root can mount a small file system")
    try:
        with pytest.raises(OutputError, match=r"cannot write .*No space left on device.*: free some space"):
            run(photos, small)
        left = [path.name for path in small.rglob("*") if path.is_file()]
        assert left
        assert all(name.startswith("part-") or name == "timing.json" for name in left)
        subprocess.run(["mount", "-o", "remount,size=8m", str(small)], check=True)
        done = run(photos, small)
        assert done.reused > 0
        run(photos, tmp_path / "undisturbed")
        assert contents(small) == contents(tmp_path / "undisturbed")
    finally:
        subprocess.run(["umount", str(small)], check=True)


def test_images_that_turn_bad_while_it_runs_are_in_the_ledger(photos: Path, tmp_path: Path) -> None:
    source = photos_source(photos)
    damage = {
        3: lambda path: path.unlink(),
        40: lambda path: path.write_bytes(b""),
        70: lambda path: path.write_bytes(path.read_bytes()[:60]),
        100: lambda path: path.write_text("no image"),
    }
    rows = source.items.index.tolist()

    def read(row: int) -> Payload:
        number = rows.index(row)
        if number in damage:
            damage[number](photos / str(source.items.at[row, "key"]))
        return source.read(row)

    done = extract(
        replace(source, read=read), [make_tiny_trunk()], tmp_path / "out", max_bad=0.1, on_images=lambda _: None
    )
    reasons = sorted(reason.split(":")[0] for reason in done.tables[0].ledger()["reason"])
    assert reasons == ["cut short", "empty file", "not an image", "unreadable"]
    assert rows_and_errors(done) == 120


def test_listed_images_are_rows_plus_errors(photos: Path, tmp_path: Path) -> None:
    (photos / "red" / "notes").write_text("no image")
    (photos / "green" / "empty.png").write_bytes(b"")
    (photos / "blue" / "gone.png").symlink_to(photos / "nowhere.png")
    done = run(photos, tmp_path / "out", max_bad=0.1)
    ledger = done.tables[0].ledger().set_index("key")["reason"].to_dict()
    assert ledger == {
        "blue/gone.png": "unreadable: No such file or directory",
        "green/empty.png": "empty file",
        "red/notes": "not an image",
    }
    assert rows_and_errors(done) == len(list(photos.glob("*/*"))) == 123


def test_too_many_bad_images_fail_the_run(photos: Path, tmp_path: Path) -> None:
    (photos / "red" / "notes").write_text("no image")
    (photos / "red" / "cut.png").write_bytes((photos / "red" / "000.png").read_bytes()[:200])
    message = r"2 of 122 images could not be read, more than `max_bad=0.01` allows \(first: red/.*errors.parquet\)"
    with pytest.raises(SourceError, match=message):
        run(photos, tmp_path / "out")
    assert not list(tmp_path.glob("out/*/manifest.json"))
    (ledger,) = tmp_path.glob("out/*/errors.parquet")
    assert set(pq.read_table(ledger)["key"].to_pylist()) == {"red/notes", "red/cut.png"}
    done = run(photos, tmp_path / "out", max_bad=0.1)
    assert (done.extracted, done.tables[0].errors) == (0, 2)
    with pytest.raises(SourceError, match=r"2 of 122 images could not be read"):
        run(photos, tmp_path / "out")


def test_retry_bad_tries_again(photos: Path, tmp_path: Path) -> None:
    source = photos_source(photos)
    broken = int(source.items.index[50])

    def read(row: int) -> Payload:
        if row == broken:
            raise OSError("the network drive is gone")
        return source.read(row)

    flaky = replace(source, read=read)
    first = extract(flaky, [make_tiny_trunk()], tmp_path / "out", max_bad=0.1, on_images=lambda _: None).tables[0]
    assert first.ledger()["reason"].tolist() == ["unreadable: the network drive is gone"]
    assert run(photos, tmp_path / "out", max_bad=0.1).extracted == 0
    done = run(photos, tmp_path / "out", retry_bad=True)
    assert 0 < done.extracted < 120
    assert done.tables[0].errors == 0
    assert done.tables[0].identity != first.identity
    assert run(photos, tmp_path / "out", retry_bad=True).extracted == 0
    run(photos, tmp_path / "afresh")
    assert contents(tmp_path / "out") == contents(tmp_path / "afresh")


def test_every_image_is_reported_once(photos: Path, tmp_path: Path, tiny_trunk: Trunk) -> None:
    seen: list[int] = []
    extract(photos_source(photos), [tiny_trunk], tmp_path, max_bad=0, on_images=seen.append)
    assert sum(seen) == 120


def test_one_pass_writes_the_table_that_each_node_alone_would(photos: Path, tmp_path: Path) -> None:
    both = run(photos, tmp_path / "both", trunk=make_tiny_trunk("pool", "early"))
    assert [table.spec.dim for table in both.tables] == [128, 2048]
    for node, table in zip(("pool", "early"), both.tables, strict=True):
        trunk = make_tiny_trunk("pool", "early")
        trunk.specs, trunk.dims = (replace(trunk.spec, node=node),), (table.spec.dim,)
        alone = run(photos, tmp_path / "alone", trunk=trunk).tables[0]
        assert contents(alone.folder) == contents(table.folder)
    assert run(photos, tmp_path / "alone", trunk=make_tiny_trunk("pool", "early")).extracted == 0


def unreadable(photos: Path, count: int) -> Source:
    """The photos, of which `count` cannot be read."""
    source = photos_source(photos)
    broken = set(source.items.index[:: len(source.items) // count][:count])

    def read(row: int) -> Payload:
        if row in broken:
            raise OSError("the network drive is gone")
        return source.read(row)

    return replace(source, read=read)


def test_a_complete_table_is_not_touched_for_the_sake_of_another(photos: Path, tmp_path: Path) -> None:
    alone = make_tiny_trunk("pool", "early")
    alone.specs, alone.dims = alone.specs[:1], alone.dims[:1]
    complete = run(photos, tmp_path / "out", trunk=alone).tables[0].folder
    before = contents(complete)
    both = make_tiny_trunk("pool", "early")
    with pytest.raises(SourceError, match=r"10 of 120 images could not be read"):
        extract(unreadable(photos, 10), [both], tmp_path / "out", max_bad=0.01, on_images=lambda _: None)
    assert contents(complete) == before
    done = run(photos, tmp_path / "out", trunk=both)
    assert contents(complete) == before
    assert [table.errors for table in done.tables] == [0, 0]


def test_tables_that_lack_other_images_are_brought_together(photos: Path, tmp_path: Path) -> None:
    for node in range(2):
        trunk = make_tiny_trunk("pool", "early")
        trunk.specs, trunk.dims = trunk.specs[node : node + 1], trunk.dims[node : node + 1]
        source = unreadable(photos, 3 + node)
        extract(source, [trunk], tmp_path / "apart", max_bad=0.1, on_images=lambda _: None)
    for table in tmp_path.glob("apart/*/manifest.json"):
        table.unlink()
    done = run(photos, tmp_path / "apart", trunk=make_tiny_trunk("pool", "early"), max_bad=0.1)
    assert len({table.errors for table in done.tables}) == 1
    assert JoinedTable(done.tables).read("train").x.shape[1] == 128 + 2048


def test_features_beyond_float16(photos: Path, tmp_path: Path, tiny_trunk: Trunk) -> None:
    tiny_trunk.module.get_parameter("norm.weight").data.fill_(1e6)
    with pytest.raises(TrunkError, match=r"features at node 'pool' do not fit float16"):
        run(photos, tmp_path, trunk=tiny_trunk)


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("DefaultCPUAllocator: can't allocate memory")]
)
def test_out_of_memory_halves_the_batch_and_says_so(
    photos: Path,
    tmp_path: Path,
    tiny_trunk: Trunk,
    error: RuntimeError,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    whole = tiny_trunk.forward

    def small_memory(images: torch.Tensor, *arguments: Any) -> Any:
        if len(images) > 5:
            raise error
        return whole(images, *arguments)

    monkeypatch.setattr(tiny_trunk, "forward", small_memory)
    with caplog.at_level(logging.WARNING):
        table = run(photos, tmp_path / "out", trunk=tiny_trunk).tables[0]
    assert tiny_trunk.batch_images == 4
    assert "out of memory on cpu: batches of 4 images from here on" in caplog.text
    expected = run(photos, tmp_path / "undisturbed").tables[0]
    assert np.array_equal(table.read("train").x, expected.read("train").x)
