"""TIFF files that Pillow decodes wrongly or not at all: read by tifffile, or a reason why not."""

from __future__ import annotations

import ctypes
import io
import logging
import math
import struct
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import _imaging

from features.errors import DecodeError, first_line
from features.sources.formats.orientation import ORIENTATION, UPRIGHT, upright

WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, PALETTE, MASK, CMYK, YCBCR, CIELAB = 0, 1, 2, 3, 4, 5, 6, 8
_RAW = {32803, 34892}
PHOTOMETRIC, PLANES = 262, 2
_NO_COMPRESSION, _LZW, _JPEG, _DEFLATE, _PACKBITS, _LZMA, _ZSTD = 1, 5, 7, {8, 32946}, 32773, 34925, 50000
_PREDICTED = {_LZW, *_DEFLATE, _LZMA, _ZSTD}
_READ = {_NO_COMPRESSION, 2, 3, 4, _JPEG, _PACKBITS, *_PREDICTED}  # 2 to 4 are those of fax machines
_BITS = {1, 2, 4, 8, 16, 32}
_FLOAT, _UNSIGNED = 3, 1
_PREMULTIPLIED, _ALPHA = 1, 2

_COLOURS = {WHITE_IS_ZERO: 1, BLACK_IS_ZERO: 1, PALETTE: 1, RGB: 3, CMYK: 4, YCBCR: 3}

Pixels = NDArray[np.uint8]

CheckSize = Callable[[tuple[int, int], int], None]
"""Raises DecodeError for a width and height that are too large, given how many bytes each pixel needs."""

_DNG_VERSION = 50706
_SAVE = "save it as RGB or grey of 8 or 16 bits"


def read_tiff(payload: bytes, check_size: CheckSize, by_pillow: Callable[[bytes], NDArray[np.uint8]]) -> Pixels:
    """The first picture as (h, w, 3) uint8 RGB, upright; by Pillow where it reads such pages rightly.

    Raises DecodeError with a reason for what neither it nor tifffile reads rightly.
    """
    import tifffile  # most sets have no TIFF files

    logging.getLogger("tifffile").setLevel(logging.CRITICAL)  # what it says of a damaged file is in the reason
    try:
        with tifffile.TiffFile(io.BytesIO(payload)) as file:
            page: Any = file.pages.first
            _refuse(page)
            if file.is_bigtiff and file.byteorder == ">":
                return _by_tifffile(page, check_size)
            if page.photometric == WHITE_IS_ZERO and page.bitspersample == 16 and page.samplesperpixel == 1:
                return 255 - by_pillow(_black_is_zero(payload, page, file.byteorder))
            return _heard(by_pillow, payload) if _pillow_is_right(page) else _by_tifffile(page, check_size)
    except tifffile.TiffFileError as error:
        raise DecodeError(f"damaged image: {first_line(error)}") from error


def _heard(by_pillow: Callable[[bytes], Pixels], payload: bytes) -> Pixels:
    """What Pillow reads; raises DecodeError where libtiff, behind it, says that pixels are damaged, and reads on."""
    _listen()
    _heard_by.damage = False
    pixels = by_pillow(payload)
    if _heard_by.damage:
        raise DecodeError("damaged image: its compressed pixels make no sense")
    return pixels


_heard_by = threading.local()


def _note(*_: object) -> None:
    _heard_by.damage = True


_NOTE = ctypes.CFUNCTYPE(None, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_void_p)(_note)


@cache
def _listen() -> None:
    """Let libtiff say what it finds to us, and not a line each to the terminal."""
    with suppress(OSError, AttributeError):  # a Pillow that is built otherwise
        libtiff = ctypes.CDLL(_imaging.__file__)
        libtiff.TIFFSetErrorHandler(_NOTE)
        libtiff.TIFFSetWarningHandler(None)


def _black_is_zero(payload: bytes, page: Any, order: str) -> bytes:
    """The same file as its own negative: Pillow takes 16-bit WhiteIsZero for BlackIsZero, where it reads it at all."""
    start = page.tags[PHOTOMETRIC].valueoffset
    return payload[:start] + struct.pack(f"{order}H", BLACK_IS_ZERO) + payload[start + 2 :]


def _by_tifffile(page: Any, check_size: CheckSize) -> Pixels:
    if page.compression != _NO_COMPRESSION and page.compression not in _DEFLATE:
        raise DecodeError(f"a TIFF of {_kind(page)}, compressed ({page.compression.name}), which is not read: {_SAVE}")
    check_size((page.imagewidth, page.imagelength), 4 + page.samplesperpixel * max(1, page.bitspersample // 8))
    _check_whole(page)
    values = page.asarray()
    if page.planarconfig == PLANES and values.ndim == 3:
        values = np.moveaxis(values, 0, -1)
    turn = page.tags.valueof(ORIENTATION, UPRIGHT)
    pixels = _to_rgb(values.reshape(page.imagelength, page.imagewidth, -1), page)
    return upright(pixels, turn if isinstance(turn, int) else UPRIGHT)


def _check_whole(page: Any) -> None:
    """Raise DecodeError unless each strip or tile is in the file: tifffile takes the others for black."""
    ends = [
        start + count if count else math.inf
        for start, count in zip(page.dataoffsets, page.databytecounts, strict=False)
    ]
    if len(ends) < math.prod(page.chunked) or max(ends, default=math.inf) > page.parent.filehandle.size:
        raise DecodeError("cut short: some of its strips or tiles are missing")


def _refuse(page: Any) -> None:
    """Raise DecodeError for what is no picture of grey or colour in whole numbers, or stored in a way not read."""
    colours, bands, compression = _COLOURS.get(page.photometric), page.samplesperpixel, page.compression
    kind, packed = f"a TIFF of {_kind(page)}", _name(compression)
    reasons = {
        "a camera's raw file (TIFF, DNG), which is not read: develop it to JPEG": page.photometric in _RAW
        or page.tags.get(_DNG_VERSION) is not None,
        "a TIFF that begins with a preview, as cameras' raw files do: develop it to JPEG": page.subfiletype & 1,
        "pixels are floating-point numbers: save the image with 8 or 16 bits": page.sampleformat == _FLOAT,
        f"{kind}, of which none is known to be white: {_SAVE}": page.sampleformat not in (_UNSIGNED, 4),
        f"a TIFF compressed by {packed}, which is not read: {_SAVE}": compression not in _READ,
        f"a TIFF with predictor {page.predictor} by {packed}: {_SAVE}": page.predictor not in (1, 2)
        or (page.predictor == 2 and compression not in _PREDICTED),
        f"{kind}, which is not read: {_SAVE}": (colours is None and page.photometric != CIELAB)
        or (page.photometric == YCBCR and compression != _JPEG)
        or page.bitspersample not in _BITS,
        f"a TIFF of {bands} bands, of which it does not say which are red, green and blue: {_SAVE}": bands > 5
        or (colours == 1 and bands > 2)
        or bands < (colours or 3),
        "a TIFF of a volume, which is not read: save its layers": page.imagedepth > 1,
    }
    for reason, is_so in reasons.items():
        if is_so:
            raise DecodeError(reason)


_BY_PILLOW = {
    (WHITE_IS_ZERO, 1): {1, 2, 4, 8},
    (BLACK_IS_ZERO, 1): {1, 2, 4, 8, 16},
    (BLACK_IS_ZERO, 2): {8},
    (PALETTE, 1): {1, 2, 4, 8},
    (RGB, 3): {8, 16},
    (RGB, 4): {8, 16},
    (CMYK, 4): {8},
    (YCBCR, 3): {8},
    (CIELAB, 3): {8},
}
"""How many bits Pillow, with libtiff behind it, reads rightly, of which colours in how many bands; found by trying."""


def _pillow_is_right(page: Any) -> bool:
    bits, bands, colours = page.bitspersample, page.samplesperpixel, page.photometric
    if bits not in _BY_PILLOW.get((colours, bands), ()):
        return False
    if colours == PALETTE:
        return page.colormap is not None and bool(page.colormap.max() > 255)
    if bands == 1 or page.planarconfig != PLANES:
        named = len(page.extrasamples) == bands - _COLOURS.get(colours, 3)
        return bool(named and (bands != 2 or page.extrasamples == (_ALPHA,)))
    plain_tiles = page.is_tiled and page.compression == _NO_COMPRESSION
    return bool(colours == RGB and bands == 3 and bits == 8 and not plain_tiles)


def _to_rgb(values: NDArray[Any], page: Any) -> NDArray[np.uint8]:
    """Samples (h, w, bands) of any number of bits as RGB; what is transparent lies on white."""
    if page.photometric not in (WHITE_IS_ZERO, BLACK_IS_ZERO, PALETTE, RGB):
        raise DecodeError(f"a TIFF of {_kind(page)}, which is not read: {_SAVE}")
    if page.photometric == PALETTE:
        colours = page.colormap
        if colours is None:
            raise DecodeError("damaged image: a TIFF with a palette of no colours")
        found: NDArray[np.uint8] = _eight_bits(colours, 16 if colours.max() > 255 else 8).T[values[..., 0]]
        return found
    count = _COLOURS[page.photometric]
    pixels = _eight_bits(values, page.bitspersample)
    colour = 255 - pixels[..., :count] if page.photometric == WHITE_IS_ZERO else pixels[..., :count]
    if page.extrasamples[:1] in ((_ALPHA,), (_PREMULTIPLIED,)):
        premultiplied = page.extrasamples[0] == _PREMULTIPLIED
        colour = _on_white(colour, pixels[..., count : count + 1], premultiplied=premultiplied)
    return np.array(np.broadcast_to(colour, (*colour.shape[:2], 3)))


def _eight_bits(values: NDArray[Any], bits: int) -> NDArray[np.uint8]:
    """Numbers of so many bits as such of eight, the largest as 255; row by row, as they may be many."""
    if bits == 8:
        return values.astype(np.uint8, copy=False)
    pixels = np.empty(values.shape, np.uint8)
    for row, found in zip(pixels, values, strict=True):
        row[:] = np.rint(found * (255 / (2**bits - 1)))
    return pixels


def _on_white(colour: NDArray[np.uint8], alpha: NDArray[np.uint8], *, premultiplied: bool) -> NDArray[np.uint8]:
    white = 255 - alpha.astype(np.float32)
    ink = colour.astype(np.float32) * (1 if premultiplied else alpha / np.float32(255))
    found: NDArray[np.uint8] = np.clip(np.rint(ink + white), 0, 255).astype(np.uint8)
    return found


def _kind(page: Any) -> str:
    """`RGB, 4 × 16 bits` or the like."""
    signed = "signed " if page.sampleformat == 2 else ""
    return f"{_name(page.photometric)}, {page.samplesperpixel} × {page.bitspersample} {signed}bits"


def _name(value: object) -> str:
    """What tifffile calls a number, or the number."""
    return str(getattr(value, "name", value))
