"""Every odd kind of file, written here, through the whole of stage 1: each becomes a row or a line of the ledger."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from features.extract import extract
from features.sources.registry import open_source
from tests.conftest import encoded, make_tiny_trunk

NOISE = np.random.default_rng(0).integers(0, 256, (20, 24, 3)).astype(np.uint8)
PHOTO = Image.fromarray(NOISE)


def turned() -> bytes:
    exif = PHOTO.getexif()
    exif[0x0112] = 8
    return encoded(PHOTO, "jpeg", exif=exif)


def bomb() -> bytes:
    """A PNG of a few hundred bytes that claims 60,000 × 60,000 pixels."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        checksum = zlib.crc32(kind + content)
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"0" * 99)) + chunk(b"IEND", b"")
    )


GOOD = {
    "turned.jpg": turned(),
    "palette.png": encoded(PHOTO.quantize(16), "png"),
    "palette.gif": encoded(PHOTO.quantize(16), "gif"),
    "transparent palette.png": encoded(PHOTO.quantize(16), "png", transparency=0),
    "alpha.png": encoded(PHOTO.convert("RGBA"), "png"),
    "alpha.webp": encoded(PHOTO.convert("RGBA"), "webp"),
    "grey and alpha.png": encoded(PHOTO.convert("LA"), "png"),
    "cmyk.jpg": encoded(PHOTO.convert("CMYK"), "jpeg"),
    "cmyk.tif": encoded(PHOTO.convert("CMYK"), "tiff"),
    "sixteen bits.png": encoded(Image.fromarray(NOISE[..., 0].astype(np.uint16) * 257), "png"),
    "sixteen bits.tif": encoded(Image.fromarray(NOISE[..., 0].astype(np.uint16) * 257), "tiff"),
    "grey.jpg": encoded(PHOTO.convert("L"), "jpeg"),
    "bilevel.png": encoded(PHOTO.convert("1"), "png"),
    "animated.gif": encoded(PHOTO, "gif", save_all=True, append_images=[PHOTO.rotate(90)]),
    "animated.webp": encoded(PHOTO, "webp", save_all=True, append_images=[PHOTO.rotate(180)]),
    "animated.png": encoded(PHOTO, "png", save_all=True, append_images=[PHOTO.rotate(180)]),
    "progressive.jpg": encoded(PHOTO, "jpeg", progressive=True),
    "gif called.jpg": encoded(PHOTO, "gif"),
    "bitmap.bmp": encoded(PHOTO, "bmp"),
    "no extension": encoded(PHOTO, "png"),
    "one pixel.png": encoded(PHOTO.crop((0, 0, 1, 1)), "png"),
    "a line.png": encoded(PHOTO.resize((3000, 1)), "png"),
}

BAD = {
    "cut.jpg": (encoded(PHOTO, "jpeg")[:-150], "cut short: "),
    "cut.png": (encoded(PHOTO, "png")[:-300], "cut short: "),
    "cut in its header.jpg": (encoded(PHOTO, "jpeg")[:20], ""),
    "empty.png": (b"", "empty file"),
    "notes": (b"no image at all", "not an image"),
    "page.jpg": (b"<!doctype html><title>404</title>", "a web page (HTML) and not the image: fetch it again"),
    "bomb.png": (bomb(), "too many pixels (60,000 × 60,000, over"),
    "floats.tif": (encoded(Image.fromarray(NOISE[..., 0].astype(np.float32)), "tiff"), "pixels are floating-point"),
}


@pytest.fixture
def odd(photos: Path) -> Path:
    for name, content in GOOD.items():
        (photos / "red" / name).write_bytes(content)
    for name, (content, _) in BAD.items():
        (photos / "red" / name).write_bytes(content)
    (photos / "red" / "gone.png").symlink_to(photos / "nowhere")
    return photos


def test_each_is_a_row_or_a_line_of_the_ledger(odd: Path, tmp_path: Path, engine: str) -> None:
    source = open_source(str(odd))
    trunk = make_tiny_trunk(engine=engine)
    table = extract(source, [trunk], tmp_path / "out", max_bad=0.5, on_images=lambda _: None).tables[0]
    reasons = {Path(key).name: reason for key, reason in table.ledger()[["key", "reason"]].to_numpy().tolist()}
    rows = {Path(key).name for key in table.index()["key"]}
    assert set(reasons) == {*BAD, "gone.png"}
    assert set(GOOD) <= rows
    assert sum(table.rows.values()) + table.errors == len(source.items) == 120 + len(GOOD) + len(BAD) + 1
    for name, (_, reason) in BAD.items():
        assert reasons[name].startswith(reason)
    assert reasons["gone.png"].startswith("unreadable")
    assert (table.ledger()["exception"] != "").all()


def test_a_bad_file_never_costs_its_batch(odd: Path, tmp_path: Path, engine: str) -> None:
    def features(folder: Path) -> dict[str, Any]:
        source = open_source(str(odd))
        trunk = make_tiny_trunk(engine=engine)
        table = extract(source, [trunk], folder, max_bad=0.5, on_images=lambda _: None).tables[0]
        rows = [table.read(split) for split in ("train", "validation", "test")]
        return {key: x for part in rows for key, x in zip(part.keys, part.x, strict=True)}

    with_bad = features(tmp_path / "with")
    for name in [*BAD, "gone.png"]:
        (odd / "red" / name).unlink()
    without = features(tmp_path / "without")
    assert set(with_bad) == set(without)
    assert all(with_bad[key] == pytest.approx(without[key], rel=2**-10, abs=1e-5) for key in without)
