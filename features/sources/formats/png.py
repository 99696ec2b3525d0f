"""A PNG file without what its pixels do not need, and as much of it as there is where it was cut short."""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from typing import NamedTuple

from features.errors import DecodeError
from features.sources.formats.jpeg import NO_PIXELS, refuse_missing
from features.sources.formats.orientation import orientation_of

SIGNATURE = b"\x89PNG\r\n\x1a\n"

_NEEDED = {b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"}

_PIECE = 2**20

MOST_MENDED = 2**30
"""Bytes of pixels, of a file that was cut short, that are worked on."""

_Chunk = tuple[bytes, int, int]
"""Kind, start and end."""

_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}


@dataclass(frozen=True, kw_only=True)
class Png:
    """A PNG file: `content` has its first picture and nothing else, but for a last chunk that is not whole.

    `missing` is the share of rows at its end that mean nothing, as the file was cut short.
    """

    content: bytes
    orientation: int
    missing: float = 0.0


class _Header(NamedTuple):
    width: int
    height: int
    bits: int
    colours: int
    compression: int
    filters: int
    interlaced: int

    @property
    def row_bytes(self) -> int:
        return 1 + (self.width * self.bits * _CHANNELS.get(self.colours, 1) + 7) // 8


def open_png(payload: bytes, max_pixels: int, accepted: float) -> Png:
    """Walk through the chunks; text, profiles and the pictures of an animation are left out, sound or not.

    Raises DecodeError for what has no picture, and where more than the share `accepted` of the rows is missing.
    """
    chunks = _chunks(payload)
    found = {kind: _body(payload, (kind, start, end)) for kind, start, end in reversed(chunks)}
    if len(found.get(b"IHDR", b"")) != 13 or b"IDAT" not in found:
        raise DecodeError(NO_PIXELS)
    header = _Header(*struct.unpack(">IIBBBBB", found[b"IHDR"]))
    orientation = orientation_of(found.get(b"eXIf"))
    kept = [chunk for chunk in chunks if chunk[0] in _NEEDED]
    whole = chunks[-1][0] == b"IEND" and chunks[-1][2] <= len(payload)
    if whole and len(kept) == len(chunks) and b"tRNS" not in found:  # and is not copied, as it may be large
        return Png(content=payload, orientation=orientation)
    if whole or header.width * header.height > max_pixels:  # such is refused when it is opened
        return Png(content=_joined(payload, kept, header), orientation=orientation)
    return _cut_short(payload, kept, header, orientation, accepted)


def missing_rows(content: bytes, accepted: float) -> float:
    """The share of rows that a file lacks though it has its end; raises DecodeError for more than is `accepted`."""
    chunks = _chunks(content)
    header = _Header(*struct.unpack(">IIBBBBB", _body(content, chunks[0])))
    if header.interlaced:
        return 0.0
    stream, size = zlib.decompressobj(), 0
    for chunk in chunks:
        data = _body(content, chunk) if chunk[0] == b"IDAT" else b""
        while data:
            size += len(stream.decompress(data, _PIECE))
            data = stream.unconsumed_tail
    missing = 1 - min(1.0, size // header.row_bytes / header.height)
    refuse_missing(missing, accepted)
    return missing


def _chunks(payload: bytes) -> list[_Chunk]:
    """Kind, start and end of each chunk, up to the end of the picture; the last may end behind the file."""
    found, position, kind = [], len(SIGNATURE), b""
    while position + 8 <= len(payload) and kind != b"IEND":
        size, kind = struct.unpack_from(">I4s", payload, position)
        found.append((kind, position, position + 12 + size))
        position += 12 + size
    return found


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
    size, missing = header.row_bytes * header.height, 0.0
    if not header.interlaced and size <= MOST_MENDED:  # else no row is there before the end
        pixels = _decompressed(data, size)
        missing = 1 - len(pixels) // header.row_bytes / header.height
        refuse_missing(missing, accepted)
        rows = len(pixels) - len(pixels) % header.row_bytes
        data = zlib.compress(pixels[:rows].ljust(size, b"\0"), 1)
    content = before + _chunk(b"IDAT", data) + _chunk(b"IEND", b"")
    return Png(content=content, orientation=orientation, missing=missing)


def _decompressed(data: bytes, size: int) -> bytes:
    try:
        return zlib.decompressobj().decompress(data, size)
    except zlib.error as error:
        raise DecodeError(f"damaged image: {error}") from error


def _data(payload: bytes, chunk: _Chunk) -> bytes:
    """Compressed pixels; raises DecodeError where a chunk is whole and its checksum wrong."""
    _, start, end = chunk
    whole = end <= len(payload)
    if whole and zlib.crc32(payload[start + 4 : end - 4]) != int.from_bytes(payload[end - 4 : end], "big"):
        raise DecodeError("damaged image: the checksum of its pixels is wrong")
    return _body(payload, chunk)


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
