"""Which way up an image is: the one thing that is read of EXIF, so that nothing else in it can do harm."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

UPRIGHT = 1

ORIENTATION = 0x0112

_TURNS: Mapping[int, Callable[[NDArray[np.uint8]], NDArray[np.uint8]]] = {
    2: lambda x: x[:, ::-1],
    3: lambda x: x[::-1, ::-1],
    4: lambda x: x[::-1],
    5: lambda x: x.swapaxes(0, 1),
    6: lambda x: x[::-1].swapaxes(0, 1),
    7: lambda x: x[::-1, ::-1].swapaxes(0, 1),
    8: lambda x: x[:, ::-1].swapaxes(0, 1),
}


def upright(pixels: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """Pixels (h, w, c) turned and mirrored as EXIF's `orientation`, 1 to 8, says."""
    return np.ascontiguousarray(_TURNS[orientation](pixels)) if orientation in _TURNS else pixels


def orientation_of(exif: object) -> int:
    """What a block of EXIF says, 1 to 8; UPRIGHT for anything that cannot be understood.

    >>> orientation_of(b"junk")
    1
    """
    if not isinstance(exif, bytes):
        return UPRIGHT
    while exif.startswith(b"Exif\0\0"):  # some write it twice
        exif = exif[6:]
    order = {b"II": "<", b"MM": ">"}.get(exif[:2])
    if order is None or len(exif) < 8:
        return UPRIGHT
    (start,) = struct.unpack_from(order + "I", exif, 4)
    if start + 2 > len(exif):
        return UPRIGHT
    (entries,) = struct.unpack_from(order + "H", exif, start)
    for entry in range(start + 2, min(start + 2 + 12 * entries, len(exif) - 11), 12):
        if struct.unpack_from(order + "H", exif, entry) == (ORIENTATION,):
            return _value(exif, entry, order)
    return UPRIGHT


def _value(exif: bytes, entry: int, order: str) -> int:
    """The number in an entry of a directory, whether it is a byte, a short or a long."""
    (kind,) = struct.unpack_from(order + "H", exif, entry + 2)
    form = {1: "B", 3: "H", 4: "I"}.get(kind)
    value: int = struct.unpack_from(order + form, exif, entry + 8)[0] if form else UPRIGHT
    return value if value in _TURNS else UPRIGHT
