"""Images that went through a trunk once need not do so again because a split, a label or a group changed."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from features.extract import Extraction, extract
from features.sources.source import Payload, Source
from features.table import shard
from features.timing import Timing
from tests.conftest import make_tiny_trunk
from tests.test_extract import contents, photos_source
from tests.test_table import damage


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, count in {"LEAST_IMAGES": 10, "LIKELY_IMAGES": 15, "MOST_IMAGES": 40}.items():
        monkeypatch.setattr(shard, name, count)


def made(source: Source, root: Path, *nodes: str) -> Extraction:
    return extract(source, [make_tiny_trunk(*nodes)], root, max_bad=0.1, on_images=lambda _: None)


def dealt_anew(source: Source, seed: int) -> Source:
    """The same images in other splits, some of another class, some in groups, and some left out."""
    random = np.random.default_rng(seed)
    items = source.items.assign(
        split=random.permutation(source.items["split"]),
        label=random.integers(0, 4, len(source.items)).astype(np.int32),
        group=random.choice(np.array(["patient 1", "patient 2", None]), len(source.items)),
    )
    items = items[random.random(len(items)) < 0.9].sort_values(["split", "key"])
    return replace(source, classes=(*source.classes, "amber"), items=items)


def never(_: int) -> Payload:
    raise AssertionError("an image was read")


@pytest.mark.parametrize("nodes", [("pool",), ("pool", "early")])
def test_images_dealt_anew_are_not_read(nodes: tuple[str, ...], photos: Path, tmp_path: Path) -> None:
    source = photos_source(photos)
    made(source, tmp_path / "out", *nodes)
    for seed in range(3):
        anew = dealt_anew(source, seed)
        done = made(replace(anew, read=never), tmp_path / "out", *nodes)
        assert (done.extracted, done.reused) == (0, len(anew.items))
        afresh = made(anew, tmp_path / f"afresh {seed}", *nodes)
        for table, other in zip(done.tables, afresh.tables, strict=True):
            assert contents(table.folder) == contents(other.folder)


def test_rows_of_several_tables_make_one(photos: Path, tmp_path: Path) -> None:
    source = photos_source(photos)
    for rest in range(2):
        made(replace(source, items=source.items.iloc[rest::2]), tmp_path)
    assert made(replace(source, read=never), tmp_path).reused == 120


def test_a_table_that_is_not_finished_is_drawn_upon(photos: Path, tmp_path: Path) -> None:
    source = photos_source(photos)
    (tmp_path / made(source, tmp_path).tables[0].folder / "manifest.json").unlink()
    assert made(replace(dealt_anew(source, 0), read=never), tmp_path).extracted == 0


def test_only_shards_with_an_image_that_changed_are_made_anew(photos: Path, tmp_path: Path) -> None:
    source = photos_source(photos)
    made(source, tmp_path / "out")
    os.utime(photos / "red" / "007.png", ns=(1, 1))
    anew = dealt_anew(photos_source(photos), 1)
    done = made(anew, tmp_path / "out")
    assert 0 < done.extracted <= 40
    assert contents(done.tables[0].folder) == contents(made(anew, tmp_path / "afresh").tables[0].folder)


def test_an_image_that_could_not_be_read_is_tried_again(photos: Path, tmp_path: Path) -> None:
    (photos / "red" / "007.png").write_text("no image")
    first = made(photos_source(photos), tmp_path)
    assert first.tables[0].errors == 1
    done = made(dealt_anew(photos_source(photos), 1), tmp_path)
    assert 0 < done.extracted <= 40
    assert done.tables[0].errors == 1


def test_damaged_shards_other_trunks_and_earlier_formats_are_not_drawn_upon(photos: Path, tmp_path: Path) -> None:
    source = photos_source(photos)
    table = made(source, tmp_path).tables[0]
    first, second, third, *_ = table.shards
    sizes = [pq.read_metadata(path).num_rows for path in (first, second, third)]
    damage(first)
    second.write_text("no Parquet")
    pq.write_table(pq.read_table(third, columns=["key", "split", "label", "sha256", "features"]), third)
    other = make_tiny_trunk()
    other.specs = (replace(other.spec, seed=1),)
    assert extract(source, [other], tmp_path, max_bad=0, on_images=lambda _: None).reused == 0
    done = made(replace(source, items=source.items.assign(group="one")), tmp_path)
    assert (done.extracted, done.reused) == (sum(sizes), 120 - sum(sizes))


def test_what_images_took_is_known_of_a_table_that_was_dealt_anew(photos: Path, tmp_path: Path) -> None:
    source = photos_source(photos)
    first = Timing.read(made(source, tmp_path).tables[0].folder)
    assert first is not None
    assert Timing.read(made(dealt_anew(source, 0), tmp_path).tables[0].folder) == first


def test_few_shards_are_held_at_a_time(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("features.table.reuse.HELD", 1)
    source = photos_source(photos)
    made(source, tmp_path / "out")
    done = made(dealt_anew(source, 2), tmp_path / "out")
    assert done.extracted == 0
    afresh = made(dealt_anew(source, 2), tmp_path / "afresh")
    assert contents(done.tables[0].folder) == contents(afresh.tables[0].folder)
