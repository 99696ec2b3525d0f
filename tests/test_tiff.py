"""TIFF files of every kind that is around, against the arrays that they were written from."""

from __future__ import annotations

import io
import struct
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image

from features.errors import DecodeError
from features.sources.decode import decode

Y, X = np.mgrid[0:48, 0:64]
PHOTO = np.stack([X * 4, Y * 5, (X + Y) * 2], -1).astype(np.uint8)
GREY = PHOTO[..., 0]
ALPHA = PHOTO[..., 1]


def written(values: NDArray[Any], photometric: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, values, photometric=photometric, metadata=None, **options)
    return buffer.getvalue()


def deep(values: NDArray[np.uint8]) -> NDArray[np.uint16]:
    return values.astype(np.uint16) * 257


def in_grey(values: NDArray[Any]) -> NDArray[Any]:
    return np.repeat(values[..., None], 3, 2)


def on_white(colour: NDArray[np.uint8]) -> NDArray[Any]:
    share = ALPHA[..., None] / 255
    return colour * share + 255 * (1 - share)


PALETTE = np.array([np.arange(256), 255 - np.arange(256), 0 * np.arange(256)], np.uint16)
IN_PALETTE = np.stack([GREY, 255 - GREY, 0 * GREY], -1)
TWO, FOUR = {"extrasamples": ["unassalpha"], "planarconfig": "contig"}, {"extrasamples": ["unassalpha"]}

RIGHT: dict[str, tuple[NDArray[Any], str, dict[str, Any], NDArray[Any]]] = {
    "grey": (GREY, "minisblack", {}, in_grey(GREY)),
    "white is zero": (255 - GREY, "miniswhite", {}, in_grey(GREY)),
    "grey, 16 bits": (deep(GREY), "minisblack", {}, in_grey(GREY)),
    "white is zero, 16 bits": (65535 - deep(GREY), "miniswhite", {}, in_grey(GREY)),
    "grey, 32 bits": (GREY.astype(np.uint32) * 16843009, "minisblack", {}, in_grey(GREY)),
    "bilevel": (GREY > 128, "minisblack", {}, in_grey(np.where(GREY > 128, 255, 0))),
    "bilevel, white is zero": (GREY <= 128, "miniswhite", {}, in_grey(np.where(GREY > 128, 255, 0))),
    "grey and alpha": (np.dstack([GREY, ALPHA]), "minisblack", TWO, on_white(in_grey(GREY))),
    "RGB": (PHOTO, "rgb", {}, PHOTO),
    "RGB, 16 bits": (deep(PHOTO), "rgb", {}, PHOTO),
    "RGB in planes": (np.moveaxis(PHOTO, 2, 0), "rgb", {"planarconfig": "separate"}, PHOTO),
    "RGB in planes, 16 bits": (np.moveaxis(deep(PHOTO), 2, 0), "rgb", {"planarconfig": "separate"}, PHOTO),
    "RGBA": (np.dstack([PHOTO, ALPHA]), "rgb", FOUR, on_white(PHOTO)),
    "RGBA, 16 bits": (deep(np.dstack([PHOTO, ALPHA])), "rgb", FOUR, on_white(PHOTO)),
    "RGB and infrared": (np.dstack([PHOTO, ALPHA]), "rgb", {"extrasamples": ["unspecified"]}, PHOTO),
    "RGB and two more": (np.dstack([PHOTO, ALPHA, GREY]), "rgb", {"extrasamples": ["unspecified"] * 2}, PHOTO),
    "CMYK": (np.dstack([255 - PHOTO, 0 * GREY]), "separated", {}, PHOTO),
    "palette of 16-bit values": (GREY, "palette", {"colormap": PALETTE * 257}, IN_PALETTE),
    "palette of 8-bit values": (GREY, "palette", {"colormap": PALETTE}, IN_PALETTE),
}

LAYOUTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "big-endian": {"byteorder": ">"},
    "tiled": {"tile": (16, 16)},
    "BigTIFF": {"bigtiff": True},
    "deflate": {"compression": "zlib"},
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("kind", RIGHT)
def test_pixels_are_those_that_were_written(kind: str, layout: str) -> None:
    values, photometric, options, expected = RIGHT[kind]
    pixels = decode(written(values, photometric, **options, **LAYOUTS[layout]))
    assert pixels.shape == expected.shape
    assert np.abs(pixels - expected).max() <= 1


def test_a_fourth_band_without_a_name_is_no_alpha() -> None:
    content = written(np.dstack([PHOTO, ALPHA]), "rgb", extrasamples=["unspecified"])
    named, other = struct.pack("<HHI", 338, 3, 1), struct.pack("<HHI", 336, 3, 1)  # ExtraSamples, DotRange
    assert content.count(named) == 1
    assert np.array_equal(decode(content.replace(named, other)), PHOTO)


@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_adobe_deflate", "jpeg", "packbits", "group4"])
def test_compressions_of_pillow(compression: str) -> None:
    image = Image.fromarray(PHOTO).convert("1" if compression == "group4" else "RGB")
    buffer = io.BytesIO()
    image.save(buffer, "tiff", compression=compression)
    expected = np.asarray(image.convert("RGB")).astype(float)
    assert np.abs(decode(buffer.getvalue()) - expected).mean() < (3 if compression == "jpeg" else 0.001)


def test_cielab_is_converted() -> None:
    grey, red = (137, 0, 0), (137, 67, 48)  # L of 255, a and b signed: about (128, 128, 128) and (255, 0, 30)
    pixels = decode(written(np.array([[grey, red]] * 8, np.uint8), "cielab"))
    assert np.abs(pixels[0, 0].astype(int) - 128).max() <= 4
    assert pixels[0, 1, 0] > 220
    assert pixels[0, 1, 1] < 60


def test_orientation_is_applied_once() -> None:
    for kind in ("RGB", "RGB in planes, 16 bits"):
        values, photometric, options, expected = RIGHT[kind]
        turned = written(values, photometric, **options, extratags=[(274, 3, 1, 6, True)])
        assert np.array_equal(decode(turned), np.rot90(expected, -1)), kind


REFUSED: dict[str, tuple[NDArray[Any], str, dict[str, Any], str]] = {
    "float32": (GREY / np.float32(255), "minisblack", {}, "floating-point numbers: save the image with 8 or 16 bits"),
    "float64": (GREY / 255, "minisblack", {}, "floating-point numbers"),
    "float16 RGB": (PHOTO.astype(np.float16), "rgb", {}, "floating-point numbers"),
    "signed": (GREY.astype(np.int16), "minisblack", {}, "1 × 16 signed bits, of which none is known to be white"),
    "64 bits": (GREY.astype(np.uint64), "minisblack", {}, "1 × 64 bits, which is not read"),
    "13 bands": (np.repeat(GREY[..., None], 13, 2), "minisblack", {"planarconfig": "contig"}, "a TIFF of 13 bands"),
    "CMYK, 16 bits": (deep(np.dstack([PHOTO, GREY])), "separated", {}, "SEPARATED, 4 × 16 bits, which is not read"),
    "sensor": (deep(GREY), "cfa", {"extratags": [(33421, 3, 2, (2, 2), True)]}, "a camera's raw file"),
    "preview": (PHOTO, "rgb", {"subfiletype": 1}, "begins with a preview, as cameras' raw files do"),
    "DNG": (PHOTO, "rgb", {"extratags": [(50706, 1, 4, b"\1\4\0\0", True)]}, "a camera's raw file"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_not_read_has_a_reason(kind: str) -> None:
    values, photometric, options, reason = REFUSED[kind]
    with pytest.raises(DecodeError, match=reason):
        decode(written(values, photometric, **options))


@pytest.mark.parametrize("options", [{}, {"tile": (16, 16)}])
def test_planes_that_are_not_all_there_are_no_black_pixels(options: dict[str, Any]) -> None:
    whole = written(np.moveaxis(deep(PHOTO), 2, 0), "rgb", planarconfig="separate", **options)
    with pytest.raises(DecodeError, match=r"^cut short: some of its strips or tiles are missing"):
        decode(whole[:-200])


def test_an_endless_chain_of_pages_is_its_first() -> None:
    content = bytearray(written(PHOTO, "rgb"))
    start = int.from_bytes(content[4:8], "little")
    after = start + 2 + 12 * int.from_bytes(content[start : start + 2], "little")
    content[after : after + 4] = content[4:8]  # the next page is this one
    assert np.array_equal(decode(bytes(content)), PHOTO)


def test_damage_that_libtiff_reads_over_is_refused_and_not_printed(capfd: pytest.CaptureFixture[str]) -> None:
    buffer = io.BytesIO()
    noise = Image.fromarray((np.random.default_rng(0).random((64, 64)) > 0.5).astype(np.uint8) * 255).convert("1")
    noise.save(buffer, "tiff", compression="group4")
    damaged = bytearray(buffer.getvalue())
    middle = len(damaged) // 2
    damaged[middle : middle + 40] = bytes(range(40, 80))
    with pytest.raises(DecodeError, match="damaged image"):
        decode(bytes(damaged))
    assert capfd.readouterr().err == ""
    assert decode(buffer.getvalue()).shape == (64, 64, 3)
