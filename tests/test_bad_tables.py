"""A table that is bad in one way is refused in one line, before anything is learnt from it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from features.devices import resolve_device
from features.extract import extract
from features.sources.registry import open_source
from features.storage import FileRecord
from features.trunk.spec import TrunkOptions
from features.trunk.trunk import build_trunk
from models.heads.registry import HEADS
from tests.conftest import COLOURS, Run, refused, write_images
from tests.test_table import edit_manifest

NODES = ("avgpool", "flatten")

Change = Callable[[Path], None]
"""Makes the good table in a folder bad."""


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `photos` and the tables of two nodes in `out`."""
    root = tmp_path_factory.mktemp("good")
    for start, (split, count) in enumerate({"train": 5, "val": 2, "test": 2}.items()):
        for colour in COLOURS:
            write_images(root / "photos" / split / colour, colour, count, start=100 * start)
    options = TrunkOptions(backbone="resnet18", weights="random", image_size=32, node=",".join(NODES))
    trunk = build_trunk(options, resolve_device("cpu"))
    source = open_source(str(root / "photos"))
    extract(source, [trunk], root / "out/features", max_bad=0, on_images=lambda _: None)
    return root


@pytest.fixture
def learn(good: Path, tmp_path: Path, treehead: Run) -> Run:
    """Compare a head on a copy of the good tables of `nodes`, after `change` has been made to that of the last."""
    shutil.copytree(good / "out", tmp_path / "out")

    def run(head: str, change: Change, *nodes: str) -> int:
        change(next(tmp_path.glob(f"out/features/*-{nodes[-1]}-*")))
        trunk = ("--backbone", "resnet18", "--image-size", 32, "--node", ",".join(nodes), "--device", "cpu")
        options = ("--dataset", good / "photos", "--heads", head, "--out", "out")
        return treehead("compare", *trunk, *options)

    return run


def rewrite(folder: Path, make: Callable[[pa.Table], pa.Table], *, count: bool = True) -> None:
    """Write what `make` makes of the table's only shard, and a manifest that fits it; rows counted only if `count`."""
    path = folder / "part-00000.parquet"
    table = make(pq.read_table(path))
    pq.write_table(table, path)
    changes: dict[str, Any] = {"shards": {path.name: asdict(FileRecord.of(path))}}
    if count:
        splits = table["split"].to_pandas().value_counts()
        changes["rows"] = {split: int(number) for split, number in splits.items()}
    edit_manifest(folder, **changes)


def replaced(table: pa.Table, name: str, values: list[Any]) -> pa.Table:
    position = table.schema.get_field_index(name)
    field = table.schema.field(name)
    return table.set_column(position, field, pa.array(values, type=field.type)).replace_schema_metadata(
        table.schema.metadata
    )


def with_value(split: str, value: float) -> Change:
    """One value of the first row of `split` is `value`."""

    def make(table: pa.Table) -> pa.Table:
        features: list[Any] = table["features"].to_pylist()
        features[table["split"].to_pylist().index(split)][3] = np.float16(value)
        return replaced(table, "features", features)

    return partial(rewrite, make=make)


def with_label(label: int) -> Change:
    """The last row has `label`."""
    return partial(rewrite, make=lambda t: replaced(t, "label", [*t["label"].to_pylist()[:-1], label]))


def with_split(before: str, after: str, label: int | None = None) -> Change:
    """Rows of the split `before`, of one `label` or all, are of `after`."""

    def make(table: pa.Table) -> pa.Table:
        rows = zip(table["split"].to_pylist(), table["label"].to_pylist(), strict=True)
        splits = [after if split == before and label in (None, each) else split for split, each in rows]
        return replaced(table, "split", splits)

    return partial(rewrite, make=make)


def with_key_of_another(table: pa.Table) -> pa.Table:
    keys = table["key"].to_pylist()
    return replaced(table, "key", [*keys[:-1], keys[0]])


def from_another_table(folder: Path) -> None:
    """The shard is that of the other node."""
    other = next(path for path in folder.parent.iterdir() if path != folder)
    rewrite(folder, lambda _: pq.read_table(other / "part-00000.parquet"))


BAD: dict[str, tuple[Change, str]] = {
    "NaN in training": (with_value("train", np.nan), "infinite or not a number (first: train/blue/000.png): delete"),
    "infinity in training": (with_value("train", np.inf), "infinite or not a number (first: train/blue/000.png)"),
    "NaN in validation": (with_value("validation", np.nan), "infinite or not a number (first: val/blue/100.png)"),
    "infinity in validation": (with_value("validation", -np.inf), "infinite or not a number (first: val/blue/100.png)"),
    "a class missing from training": (
        with_split("train", "test", label=1),
        "has no training row of 1 of its 3 classes (green): expected one of each at least",
    ),
    "a negative label": (with_label(-1), "has the label -1, expected 0 to 2: delete it and run again"),
    "a label too large": (with_label(3), "has the label 3, expected 0 to 2: delete it and run again"),
    "no training rows": (
        with_split("train", "test"),
        "has no training row of 3 of its 3 classes (blue, green, red): expected one of each at least",
    ),
    "no validation rows": (with_split("validation", "test"), "has no validation rows: add images to validation"),
    "no test rows": (with_split("test", "train"), "has no test rows: give the data set test images"),
    "no rows": (partial(rewrite, make=lambda table: table[:0]), "has no test rows: give the data set test images"),
    "no shards": (partial(edit_manifest, shards={}), "manifest.json names no shards: delete it and run again"),
    "an unknown split": (with_split("test", "holdout"), "has no test rows"),
    "a key twice": (
        partial(rewrite, make=with_key_of_another),
        "has the key 'train/blue/000.png' more than once, expected each image once: delete it and run again",
    ),
    "fewer rows than the manifest says": (
        partial(rewrite, make=lambda table: table[1:], count=False),
        "has {'train': 14, 'validation': 6, 'test': 6} rows, expected {'train': 15, 'validation': 6, 'test': 6}",
    ),
    "more rows than the manifest says": (
        partial(edit_manifest, rows={"train": 14, "validation": 6, "test": 6}),
        "has {'train': 15, 'validation': 6, 'test': 6} rows, expected {'train': 14, 'validation': 6, 'test': 6}",
    ),
    "another table's shard": (from_another_table, "part-00000.parquet is of another table (fingerprint"),
    "another fingerprint": (
        partial(edit_manifest, fingerprint="0" * 64),
        "was made with other settings (fingerprint 00000000, expected",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_table_is_one_line_and_exit_code_2(name: str, learn: Run, capsys: pytest.CaptureFixture[str]) -> None:
    change, message = BAD[name]
    assert message in refused(learn, capsys, "linear", change, "avgpool")


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_test_rows_that_are_not_finite_are_refused_when_they_are_first_read(
    value: float, learn: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    assert learn("linear", with_value("test", value), "avgpool") == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.count("treehead: ") == 1
    assert "infinite or not a number (first: test/blue/200.png)" in output.err.splitlines()[-1]


@pytest.mark.parametrize("head", HEADS)
def test_every_head_refuses_a_bad_table(head: str, learn: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert "infinite or not a number" in refused(learn, capsys, head, with_value("validation", np.nan), "avgpool")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (with_label(3), "has the label 3, expected 0 to 2"),
        (with_label(0), "holds other images than"),
        (partial(rewrite, make=lambda table: table[::-1]), "holds other images than"),
        (partial(rewrite, make=with_key_of_another), "more than once, expected each image once"),
    ],
)
def test_a_bad_table_beside_a_good_one(
    change: Change, message: str, learn: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    assert message in refused(learn, capsys, "linear", change, "flatten", "avgpool")


def test_the_good_tables_are_learnt_from(learn: Run) -> None:
    assert learn("linear", lambda _: None, *NODES) == 0


def test_one_class_is_one_line_and_exit_code_2(
    treehead: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_images(tmp_path / "one/red", "red", 3)
    assert "holds one class only ('red')" in refused(treehead, capsys, "xgb", "--dataset", "one")
