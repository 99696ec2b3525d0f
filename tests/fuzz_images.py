"""Damaged images by the thousand, from a seed: sound ones of each format with bits, lengths and chunks changed."""

from __future__ import annotations

import io
import random
import struct
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import tifffile
from PIL import Image

from tests.conftest import encoded

NOISE = np.random.default_rng(0).integers(0, 256, (40, 56, 3)).astype(np.uint8)
PHOTO = Image.fromarray(np.sort(NOISE, axis=1))


def _tiff(**options: Any) -> bytes:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, **options)
    return buffer.getvalue()


def sound() -> dict[str, bytes]:
    """An image of each format that is read, and of each way there is through them."""
    import pillow_heif

    pillow_heif.register_heif_opener()
    exif = Image.Exif()
    exif[0x0112] = 6
    deep = NOISE.astype(np.uint16) * 257
    return {
        "jpeg": encoded(PHOTO, "jpeg", exif=exif),
        "progressive.jpeg": encoded(PHOTO, "jpeg", progressive=True),
        "cmyk.jpeg": encoded(PHOTO.convert("CMYK"), "jpeg"),
        "png": encoded(PHOTO, "png"),
        "palette.png": encoded(PHOTO.quantize(16), "png", transparency=3, exif=exif),
        "grey16.png": encoded(Image.fromarray(deep[..., 0]), "png"),
        "gif": encoded(PHOTO.quantize(16), "gif", save_all=True, append_images=[PHOTO.quantize(4)]),
        "webp": encoded(PHOTO, "webp", exif=exif),
        "lossless.webp": encoded(PHOTO.convert("RGBA"), "webp", lossless=True),
        "tiff": encoded(PHOTO, "tiff", compression="tiff_lzw"),
        "planes.tiff": _tiff(data=np.moveaxis(deep, 2, 0), photometric="rgb", planarconfig="separate"),
        "tiles.tiff": _tiff(data=deep, photometric="rgb", tile=(16, 16), bigtiff=True, byteorder=">"),
        "bmp": encoded(PHOTO.quantize(16), "bmp"),
        "jp2": encoded(PHOTO, "jpeg2000"),
        "ppm": encoded(PHOTO, "ppm"),
        "ico": encoded(PHOTO, "ico", sizes=[(32, 32)]),
        "tga": encoded(PHOTO, "tga", compression="tga_rle"),
        "avif": encoded(PHOTO, "avif"),
        "heic": encoded(PHOTO, "heif"),
    }


def _flip_bits(content: bytearray, dice: random.Random) -> None:
    for _ in range(dice.choice((1, 1, 3, 30))):
        content[dice.randrange(len(content))] ^= 1 << dice.randrange(8)


def _flip_header(content: bytearray, dice: random.Random) -> None:
    for _ in range(dice.choice((1, 2, 4))):
        content[dice.randrange(min(len(content), 96))] = dice.choice((0, 1, 0x7F, 0x80, 0xFF, dice.randrange(256)))


def _cut(content: bytearray, dice: random.Random) -> None:
    del content[dice.randrange(len(content)) :]


def _huge_number(content: bytearray, dice: random.Random) -> None:
    """Sizes, offsets and counts are numbers of two or four bytes."""
    number = dice.choice((0, 1, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1))
    form = dice.choice(("<I", ">I", "<H", ">H"))
    packed = struct.pack(form, number & (0xFFFF if form[1] == "H" else 0xFFFFFFFF))
    start = dice.randrange(min(len(content), 512))
    content[start : start + len(packed)] = packed


def _repeat(content: bytearray, dice: random.Random) -> None:
    start = dice.randrange(len(content))
    part = content[start : start + dice.randrange(1, 64)]
    content[start:start] = part * dice.choice((1, 2, 50))


def _drop(content: bytearray, dice: random.Random) -> None:
    start = dice.randrange(len(content))
    del content[start : start + dice.randrange(1, 64)]


def _zeros(content: bytearray, dice: random.Random) -> None:
    start = dice.randrange(len(content))
    length = min(dice.randrange(1, 512), len(content) - start)
    content[start : start + length] = bytes(length)


WAYS: tuple[Callable[[bytearray, random.Random], None], ...] = (
    _flip_bits,
    _flip_header,
    _cut,
    _huge_number,
    _repeat,
    _drop,
    _zeros,
)


def damaged(count: int, seed: int) -> Iterator[tuple[str, bytes]]:
    """`count` names and contents of damaged images, each format in turn."""
    dice, wholes = random.Random(seed), list(sound().items())
    for number in range(count):
        name, whole = wholes[number % len(wholes)]
        content = bytearray(whole)
        for _ in range(dice.choice((1, 1, 2))):
            if content:
                dice.choice(WAYS)(content, dice)
        yield f"{number:05d}.{name}", bytes(content)
