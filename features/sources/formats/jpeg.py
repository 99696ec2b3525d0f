"""What is known of a JPEG file without decoding it, and how much of it is there."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from features.errors import DecodeError
from features.sources.formats.orientation import UPRIGHT, orientation_of

END = b"\xff\xd9"

NO_PIXELS = "cut short or damaged: there are no pixels behind its header"

_START_OF_SCAN, _EXIF = 0xDA, 0xE1
_FRAMES = {*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC}
_LOSSLESS = {0xC3, 0xC5, 0xC6, 0xC7, 0xCB, 0xCD, 0xCE, 0xCF, 0xF7}
_NOT_NEEDED = {*range(0xE1, 0xEE), 0xEF, 0xFE, 0xFF}
"""What says nothing of pixels: EXIF, ICC, further pictures, comments, padding. JFIF and Adobe say which colours."""

_SCAN = re.compile(rb"\xff\xda\x00.", re.DOTALL)

_TABLES = re.compile(rb"\xff\xc4(?=(..)(.{0,1024}))", re.DOTALL)

_HOLE = bytes(512)

_FOREIGN = bytes(range(1, 255))
"""Pixels of no image: where they change what is decoded, some of the file's own were missing."""


@dataclass(frozen=True, kw_only=True)
class Jpeg:
    """A JPEG file as far as its first scan: `content` is the file without what its pixels do not need."""

    content: bytes
    orientation: int
    progressive: bool


def open_jpeg(payload: bytes) -> Jpeg:
    """Walk through the segments before the first scan; raises DecodeError for what is not read, or ends before."""
    kept, orientation, frame = [(0, 2)], UPRIGHT, 0
    for marker, start, end in _segments(payload):
        if marker == _EXIF and orientation == UPRIGHT and payload[start + 4 : start + 8] == b"Exif":
            orientation = orientation_of(payload[start + 4 : end])
        if marker in _FRAMES:
            frame = marker
            _check_frame(marker, payload[start + 4])
        if marker not in _NOT_NEEDED:
            kept.append((start, end))
        if marker == _START_OF_SCAN:
            whole = sum(end - start for start, end in kept) == len(payload)  # and is not copied, as it may be large
            content = payload if whole else b"".join(payload[start:end] for start, end in kept)
            return Jpeg(content=content, orientation=orientation, progressive=frame in (0xC2, 0xCA))
    raise DecodeError(NO_PIXELS)


def _segments(payload: bytes) -> Iterator[tuple[int, int, int]]:
    """Marker, start and end of each segment up to the first scan, which ends with the file."""
    position = 2
    while position + 4 <= len(payload) and payload[position] == 0xFF:
        marker = payload[position + 1]
        end = position + 2 + int.from_bytes(payload[position + 2 : position + 4], "big")
        if marker in (0xFF, 0x01) or 0xD0 <= marker <= 0xD8:  # padding, or nothing but itself
            end = position + (1 if marker == 0xFF else 2)
        elif marker == _START_OF_SCAN:
            end = len(payload)
        yield marker, position, end
        position = end


def check_holes(jpeg: Jpeg) -> None:
    """Raise DecodeError where a block of the disk is zeros in a baseline file: nobody's photograph is stored so.

    Where the first code of each table says that a block of pixels has ended, a plain area may be: then there is no
    telling.
    """
    content = jpeg.content
    hole = content.find(_HOLE)
    if hole < 0 or jpeg.progressive or 0 <= content.find(END) < hole or not content[hole:].strip(b"\0"):
        return
    first = [symbol for table in _TABLES.finditer(content, 0, hole) for symbol in _first_codes(table[1], table[2])]
    if any(first):
        raise DecodeError("damaged image: a part of its pixels is nothing but zeros")


def _first_codes(header: bytes, tables: bytes) -> list[int]:
    """What the shortest code of each table of coefficients in a segment stands for; 0 is the end of a block."""
    size = int.from_bytes(header, "big") - 2
    found, position = [], 0
    while position + 17 < min(size, len(tables)):
        if tables[position] & 0x10:
            found.append(tables[position + 17])
        position += 17 + sum(tables[position + 1 : position + 17])
    return found


def _check_frame(marker: int, bits: int) -> None:
    if marker in _LOSSLESS:
        raise DecodeError("a lossless JPEG, which is not read: save it as PNG")
    if bits != 8:
        raise DecodeError(f"a JPEG of {bits} bits a sample, which is not read: save it with 8")


def cut_short(jpeg: Jpeg, load: Callable[[bytes], NDArray[np.uint8]], accepted: float) -> NDArray[np.uint8]:
    """The pixels of a file without an end, of which nothing or at most the share `accepted` is missing.

    Missing rows are those that change when more data, of no image, is put behind what there is; the decoder leaves them
    grey. Raises DecodeError that says how much is missing.
    """
    content = jpeg.content.removesuffix(END)
    zeros = len(content) - len(content.rstrip(b"\0"))
    content = content[: len(content) - max(0, zeros - 2)].rstrip(b"\xff")
    pixels = load(content + END)
    changed = (pixels != load(content + _FOREIGN + END)).any(axis=(1, 2))
    missing = 1 - int(changed.argmax()) / len(changed) if changed.any() else 0.0
    if jpeg.progressive:
        refuse_missing(missing_detail(content, whole=not changed.any()), accepted, "its detail is")
    else:
        refuse_missing(missing, accepted)
    return pixels


def refuse_missing(missing: float, accepted: float, what: str = "its rows are") -> None:
    """Raise DecodeError where a larger share is missing than is accepted."""
    if missing >= 1:
        raise DecodeError(f"cut short: all of {what} missing")
    if missing > accepted:
        percent = math.ceil(round(100 * missing, 6))
        raise DecodeError(
            f"cut short: {percent} % of {what} missing; `accept_truncated={percent / 100:g}` would take it"
        )


def missing_detail(content: bytes, *, whole: bool = True) -> float:
    """Which share of a progressive file's detail its scans do not give; without `whole`, the last gives nothing.

    A coefficient of which the lowest k bits are missing counts as 1 / (1 + k).
    """
    scans = [_scan(content, found.start()) for found in _SCAN.finditer(content)]
    known = np.zeros((256, 64))
    components: set[int] = set()
    for number, (names, first, last, bits) in enumerate(scans):
        components.update(names)
        if whole or number < len(scans) - 1:
            known[names, first : last + 1] = 1 / (1 + bits)
    return 1 - float(known.sum()) / (64 * max(len(components), 1))


def _scan(content: bytes, start: int) -> tuple[list[int], int, int, int]:
    """A scan's components, its first and last coefficient, and how many low bits it leaves to later ones."""
    header = content[start + 4 : start + 4 + 12].ljust(12, b"\0")
    count = min(header[0], 4)
    first, last, bits = header[1 + 2 * count : 4 + 2 * count]
    return [header[1 + 2 * number] for number in range(count)], min(first, 63), min(last, 63), bits & 15


def looks_cut_short(jpeg: Jpeg, pixels: NDArray[np.uint8]) -> bool:
    """Whether a file that could be decoded may have been cut: it has no end, a grey last corner, or lacks scans.

    Zeros are pixels for many tables: a file that was filled up with them may last for the whole picture.
    """
    ends = jpeg.content.endswith(END) or END in jpeg.content  # most do, and need no search
    if not ends or (jpeg.progressive and missing_detail(jpeg.content) > 0):
        return True
    return bool(pixels[-1, -1, 0] == 128 and (pixels[-8:, -8:] == 128).all())
