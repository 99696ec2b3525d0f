from __future__ import annotations

import base64
import io
from pathlib import Path

import pytest
from PIL import Image

from features.sources.decode import DECODING
from features.sources.folders import open_folder
from features.sources.options import SourceOptions
from features.sources.source import Source
from pipeline.report.html import SIDE, thumbnails


@pytest.fixture
def source(tmp_path: Path) -> Source:
    for name, size, mode in (("wide", (400, 100), "RGB"), ("small", (8, 8), "L"), ("gone", (9, 9), "RGB")):
        (tmp_path / "images" / name).mkdir(parents=True)
        Image.new(mode, size, "white").save(tmp_path / "images" / name / "1.png")
    return open_folder(tmp_path / "images", SourceOptions(), lambda _: None)


def picture(uri: str) -> Image.Image:
    kind, _, content = uri.partition(",")
    assert kind == "data:image/webp;base64"
    return Image.open(io.BytesIO(base64.b64decode(content)))


def test_a_picture_is_small_and_keeps_its_shape(source: Source) -> None:
    made = thumbnails(source, ["wide/1.png", "small/1.png", "wide/1.png"], DECODING)
    assert picture(made["wide/1.png"]).size == (SIDE, SIDE // 4)
    assert picture(made["small/1.png"]).size == (SIDE, SIDE)


def test_what_cannot_be_read_any_more_is_left_out(source: Source, tmp_path: Path) -> None:
    (tmp_path / "images/gone/1.png").unlink()
    (tmp_path / "images/small/1.png").write_bytes(b"no image")
    assert list(thumbnails(source, source.items["key"], DECODING)) == ["wide/1.png"]
