"""A PNG file without what its pixels do not need, and as much of it as there is where it was cut short."""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass

from features.errors import DecodeError
from features.sources.formats.jpeg import refuse_missing
from features.sources.formats.orientation import UPRIGHT, orientation_of

SIGNATURE = b"\x89PNG\r\n\x1a\n"

_NEEDED = {b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"}
MOST_MENDED = 2**30
"""Bytes of pixels, of a file that was cut short, that are worked on."""

_Chunk = tuple[bytes, int, int]

_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}


@dataclass(frozen=True, kw_only=True)
class Png:
    """A PNG file: `content` has its first picture and nothing else, but for a last chunk that is not whole.

    `missing` is the share of rows at its end that mean nothing, as the file was cut short.
    """

    content: bytes
    orientation: int
    missing: float = 0.0


@dataclass(frozen=True, kw_only=True)
class _Header:
    width: int
    height: int
    bits: int
    colours: int
    interlaced: int

    @classmethod
    def of(cls, content: bytes) -> _Header:
        if len(content) < 13:
            raise DecodeError("cut short or damaged: there are no pixels behind its header")
        width, height, bits, colours, _, _, interlaced = struct.unpack(">IIBBBBB", content[:13])
        return cls(width=width, height=height, bits=bits, colours=colours, interlaced=interlaced)

    @property
    def row_bytes(self) -> int:
        return 1 + (self.width * self.bits * _CHANNELS.get(self.colours, 1) + 7) // 8


def open_png(payload: bytes, max_pixels: int, accepted: float) -> Png:
    """Walk through the chunks; text, profiles and the pictures of an animation are left out, sound or not.

    Raises DecodeError for what has no picture, and where more than the share `accepted` of the rows is missing.
    """
    chunks = _chunks(payload)
    header = next((_Header.of(_body(payload, chunk)) for chunk in chunks if chunk[0] == b"IHDR"), None)
    if header is None or not any(kind == b"IDAT" for kind, _, _ in chunks):
        raise DecodeError("cut short or damaged: there are no pixels behind its header")
    exif = next((_body(payload, chunk) for chunk in chunks if chunk[0] == b"eXIf"), b"")
    orientation = orientation_of(exif) if exif else UPRIGHT
    kept = [chunk for chunk in chunks if chunk[0] in _NEEDED]
    whole = chunks[-1][0] == b"IEND" and chunks[-1][2] <= len(payload)
    if whole and len(kept) == len(chunks) and all(kind != b"tRNS" for kind, _, _ in kept):
        return Png(content=payload, orientation=orientation)
    if whole or header.width * header.height > max_pixels:  # such is refused when it is opened
        return Png(content=_joined(payload, kept, header), orientation=orientation)
    return _cut_short(payload, kept, header, orientation, accepted)


def _chunks(payload: bytes) -> list[_Chunk]:
    """Kind, start and end of each chunk, up to the end of the picture; the last may end behind the file."""
    found, position, kind = [], len(SIGNATURE), b""
    while position + 8 <= len(payload) and kind != b"IEND":
        size, kind = struct.unpack_from(">I4s", payload, position)
        found.append((kind, position, position + 12 + size))
        position += 12 + size
    return found or [(b"", 0, 0)]


def _body(payload: bytes, chunk: _Chunk) -> bytes:
    return payload[chunk[1] + 8 : chunk[2] - 4]


def _joined(payload: bytes, chunks: list[_Chunk], header: _Header) -> bytes:
    return SIGNATURE + b"".join(
        _transparency(_body(payload, chunk), header) if chunk[0] == b"tRNS" else payload[chunk[1] : chunk[2]]
        for chunk in chunks
    )


def _transparency(content: bytes, header: _Header) -> bytes:
    """The chunk that says which colour is transparent, in the grey levels that Pillow has."""
    if header.colours == 2 and header.bits == 16:
        raise DecodeError("a PNG of 16 bits with one transparent colour, which is not read: save it with 8 bits")
    if header.colours == 0 and header.bits < 8 and len(content) == 2:
        content = struct.pack(">H", int.from_bytes(content, "big") * 255 // (2**header.bits - 1) & 0xFFFF)
    return _chunk(b"tRNS", content)


def _cut_short(payload: bytes, kept: list[_Chunk], header: _Header, orientation: int, accepted: float) -> Png:
    """The file with the rows that there are, and zeros for all others."""
    before = _joined(payload, [chunk for chunk in kept if chunk[0] not in (b"IDAT", b"IEND")], header)
    data = b"".join(_data(payload, chunk) for chunk in kept if chunk[0] == b"IDAT")
    if header.interlaced or header.row_bytes * header.height > MOST_MENDED:  # no row is there before the end
        content = b"".join([before, _chunk(b"IDAT", data), _chunk(b"IEND", b"")])
        return Png(content=content, orientation=orientation)
    whole = header.row_bytes * header.height
    try:
        pixels = zlib.decompressobj().decompress(data, whole)
    except zlib.error as error:
        raise DecodeError(f"damaged image: {error}") from error
    rows = len(pixels) // header.row_bytes
    missing = 1 - rows / header.height
    refuse_missing(missing, accepted, "rows")
    pixels = zlib.compress(pixels[: rows * header.row_bytes].ljust(whole, b"\0"), 1)
    content = b"".join([before, _chunk(b"IDAT", pixels), _chunk(b"IEND", b"")])
    return Png(content=content, orientation=orientation, missing=missing)


def _data(payload: bytes, chunk: _Chunk) -> bytes:
    """Compressed pixels; raises DecodeError where a chunk is whole and its checksum wrong."""
    _, start, end = chunk
    if end > len(payload):
        return payload[start + 8 : end - 4]
    if zlib.crc32(payload[start + 4 : end - 4]) != int.from_bytes(payload[end - 4 : end], "big"):
        raise DecodeError("damaged image: the checksum of its pixels is wrong")
    return _body(payload, chunk)


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
