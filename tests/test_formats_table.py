"""Each row of the table of formats in docs/images.md, with a file of its kind: read, or refused with a reason."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from features.errors import DecodeError
from features.sources.decode import decode
from tests.conftest import encoded
from tests.fuzz_images import PHOTO, sound

PAGE = Path(__file__).parents[1] / "docs" / "images.md"

SOUND = sound()


def frame(marker: int, bits: int) -> bytes:
    """A JPEG file as far as its frame, of another kind or depth."""
    size = struct.pack(">HBHHB", 11, bits, 8, 8, 1) + b"\1\x11\0"
    return b"\xff\xd8\xff" + bytes([marker]) + size + b"\xff\xda\0\x08\1\1\0\0\x3f\0"


def animated(kind: str) -> bytes:
    return encoded(PHOTO, kind, save_all=True, append_images=[PHOTO.rotate(180)])


DEEP = Image.fromarray(np.full((8, 8), 30_000, np.uint16))
FLOATS = encoded(Image.new("F", (8, 8)), "tiff")
DNG = encoded(PHOTO, "tiff", tiffinfo={50706: b"\1\4\0\0"})

ROWS = {
    "JPEG, also progressive, CMYK and in grey": [
        SOUND["jpeg"],
        SOUND["progressive.jpeg"],
        SOUND["cmyk.jpeg"],
        encoded(PHOTO.convert("L"), "jpeg"),
    ],
    "JPEG of 12 bits, lossless JPEG, JPEG-LS": [frame(0xC1, 12), frame(0xC3, 8), frame(0xF7, 8)],
    "PNG, also of 16 bits and with a palette": [SOUND["png"], SOUND["grey16.png"], SOUND["palette.png"]],
    "GIF, WebP, AVIF, animated PNG": [animated(kind) for kind in ("gif", "webp", "avif", "png")],
    "HEIC, HEIF": [SOUND["heic"]],
    "BMP, PPM, ICO": [SOUND["bmp"], SOUND["ppm"], SOUND["ico"]],
    "TGA with its footer": [SOUND["tga"]],
    "JPEG 2000 of 8 bits": [SOUND["jp2"]],
    "JPEG 2000 of other depths": [encoded(DEEP, "jpeg2000")],
    "TIFF in grey, RGB, CMYK or a palette, with alpha or infrared": [
        encoded(PHOTO.convert(mode), "tiff") for mode in ("L", "RGB", "CMYK", "P", "RGBA", "1")
    ],
    "TIFF of floating-point or signed numbers, or of many bands": [FLOATS],
    "a camera's raw file, DNG": [b"II*\0\x10\0\0\0CR\2\0", DNG],
    "JPEG XL, PSD, SVG, PDF, PostScript, DICOM": [
        b"\xff\x0a\0\0",
        b"8BPS",
        b"<svg xmlns=''/>",
        b"%PDF-1",
        b"%!PS",
        bytes(128) + b"DICM",
    ],
    "a pointer of Git LFS, a web page, an archive, a video": [
        b"version https://git-lfs.github.com/spec/v1",
        b"<html>",
        b"PK\3\4",
        b"\0\0\0\x14ftypmp42",
    ],
}


def documented() -> dict[str, str]:
    """What the page says of each file of its first table."""
    table = PAGE.read_text().partition("| file | what happens |\n| --- | --- |\n")[2].partition("\n\n")[0]
    return {file: what for _, file, what, _ in (map(str.strip, line.split("|")) for line in table.splitlines())}


def test_the_page_has_the_rows_that_are_tried() -> None:
    assert list(documented()) == list(ROWS)


@pytest.mark.parametrize("row", ROWS)
def test_what_the_page_says_happens(row: str) -> None:
    happens = documented()[row]
    for payload in ROWS[row]:
        if happens.startswith("read"):
            assert decode(payload).shape[2] == 3
        else:
            with pytest.raises(
                DecodeError, match=happens.partition("a reason: ")[2] or "which is not read|and not|number"
            ):
                decode(payload)
