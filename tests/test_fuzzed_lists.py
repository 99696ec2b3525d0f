"""Lists and Parquet files that are damaged or odd in any way: rows come of them, or one sentence of why not."""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from features.errors import DecodeError, SourceError
from features.sources.registry import open_source
from tests.conftest import write_images
from tests.test_mutated import cut, flipped, overwritten

Change = Callable[[bytes, random.Random], bytes]
"""Makes other bytes of a file's."""

ODD = (b"\0", b"\r", b"\n", b'"', b";", b"\t", b",", b"\xff\xfe", b"\xef\xbb\xbf", b"\x81", b"sep=;\n", b"x" * 200_000)


def odd_in_it(content: bytes, draw: random.Random) -> bytes:
    start = draw.randrange(len(content) + 1)
    return content[:start] + draw.choice(ODD) * draw.choice((1, 1, 3)) + content[start:]


def other_signs(content: bytes, draw: random.Random) -> bytes:
    """A sign stands for another everywhere."""
    one, other = (draw.choice(b',;\t|\n\r" ./\\0123pathlabel\0').to_bytes() for _ in range(2))
    return content.replace(one, other)


def other_encoding(content: bytes, draw: random.Random) -> bytes:
    encoding = draw.choice(("utf-16", "utf-16-le", "utf-32", "utf-8-sig", "cp500"))
    return content.decode(errors="replace").encode(encoding, errors="replace")


def shuffled_lines(content: bytes, draw: random.Random) -> bytes:
    lines = content.split(b"\n")
    draw.shuffle(lines)
    return b"\n".join(lines)


CHANGES: tuple[Change, ...] = (flipped, cut, overwritten, odd_in_it, other_signs, other_encoding, shuffled_lines)

VALUES = (
    ["cat", "dog"], [0, 1], [0.0, 1.5], [None, "cat"], [True, False], [[1], [2]], [{"a": 1}, {"a": 2}], [b"a", b"\xff"],
    [pd.Timestamp(0), pd.Timestamp(1)], ["", " "], ["\ud7ff", "e\u0301"], [10**18, -1], ["train", "test"],
    ["img/000.png", "../x"], ["/", "."], ["1" * 5000, "2"],
)  # fmt: skip
"""What a column of a Parquet list may hold, over and over."""


MANY = pytest.param(range(60, 500), id="many", marks=pytest.mark.slow)
seeds = pytest.mark.parametrize("seeds", [pytest.param(range(60), id="some"), MANY])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_images(tmp_path / "img", "red", 12)
    return tmp_path


def listed(path: Path) -> int:
    """How many rows are listed: none where the list is refused in a sentence."""
    try:
        source = open_source(str(path))
    except SourceError:
        return 0
    assert source.items["key"].is_unique
    assert source.items["label"].between(0, len(source.classes) - 1).all()
    return len(source.items)


def a_list(draw: random.Random) -> bytes:
    end, sep = draw.choice(("\n", "\r\n")), draw.choice(",;\t")
    splits = draw.choice(((), ("train", "val", "test"), ("0", "1", "2", "3")))
    rows = [["path", "label", "split"][: 3 if splits else 2]]
    rows += [
        [f"img/{row:03d}.png", "cat" if row % 2 else "dog", *([splits[row // 2 % len(splits)]] if splits else [])]
        for row in range(12)
    ]
    return "".join(sep.join(row) + end for row in rows).encode()


def parquet_list(path: Path, draw: random.Random) -> None:
    names = draw.sample(["path", "label", "split", "id", "class", "image", "x", ""], k=draw.randrange(1, 5))
    columns = {name: (draw.choice(VALUES) * 6) for name in names}
    if draw.random() < 0.7:
        columns["path"] = [f"img/{row:03d}.png" for row in range(12)]
    pd.DataFrame(columns).to_parquet(path)
    if draw.random() < 0.3:
        path.write_bytes(draw.choice((flipped, cut, overwritten))(path.read_bytes(), draw))


@seeds
def test_a_damaged_list_is_read_or_refused(folder: Path, seeds: range) -> None:
    read = 0
    for number in seeds:
        draw = random.Random(number)
        content = a_list(draw)
        for _ in range(draw.randrange(1, 4)):
            content = draw.choice(CHANGES)(content or b"x", draw)
        (folder / "list.csv").write_bytes(content)
        read += listed(folder / "list.csv") > 0
    assert 0 < read < len(seeds)


@seeds
def test_an_odd_parquet_list_is_read_or_refused(folder: Path, seeds: range) -> None:
    read = 0
    for number in seeds:
        parquet_list(folder / "list.parquet", random.Random(number))
        read += listed(folder / "list.parquet") > 0
    assert 0 < read < len(seeds)


def test_an_undamaged_list_is_read(folder: Path) -> None:
    for number in range(20):
        (folder / "list.csv").write_bytes(a_list(random.Random(number)))
        assert listed(folder / "list.csv") == 12


def hub_file(path: Path, draw: random.Random) -> None:
    """A damaged file of the hub's, of 12 images."""
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    images = [{"bytes": encoded.read_bytes(), "path": None} for encoded in sorted(path.parent.glob("img/*"))]
    pq.write_table(pa.table({"image": pa.array(images, kind), "label": [0, 1] * 6}), path, row_group_size=5)
    path.write_bytes(draw.choice((flipped, cut, overwritten))(path.read_bytes(), draw))


@seeds
def test_a_damaged_hub_file_is_read_or_refused_and_so_are_its_rows(folder: Path, seeds: range) -> None:
    read = 0
    for number in seeds:
        hub_file(folder / "train.parquet", random.Random(number))
        try:
            source = open_source(str(folder / "train.parquet"))
        except SourceError:
            continue
        for row in source.items.index:
            with suppress(OSError, DecodeError):
                read += len(source.read(row)) > 0
    assert 0 < read < 12 * len(seeds)
