"""What the headers of rarer formats say, where that must be known before Pillow opens them."""

from __future__ import annotations

import re
import struct

from features.errors import DecodeError

_CODESTREAM = re.compile(rb"\xff\x4f\xff\x51..", re.DOTALL)

MOST_ICON_PIXELS = 2**22


def check_jpeg2000(payload: bytes) -> None:
    """Raise DecodeError unless all samples have 8 bits: Pillow gets others wrong."""
    found = _CODESTREAM.search(payload)
    if not found or len(payload) < found.end() + 36:
        raise DecodeError("damaged image: JPEG 2000 without a header")
    (count,) = struct.unpack_from(">H", payload, found.end() + 34)
    samples = payload[found.end() + 36 : found.end() + 36 + 3 * count : 3]
    odd = [sample for sample in samples if sample != 7]
    if odd:
        signed = "signed " if odd[0] & 0x80 else ""
        bits = (odd[0] & 0x7F) + 1
        raise DecodeError(f"JPEG 2000 of {bits} {signed}bits a sample, which is not read: save it as PNG or TIFF")


def webp_size(payload: bytes) -> tuple[int, int]:
    """Width and height of a WebP file; raises DecodeError where its header is damaged."""
    kind, body = payload[12:16], payload[20:30]
    if len(body) == 10 and kind == b"VP8X":
        return 1 + int.from_bytes(body[4:7], "little"), 1 + int.from_bytes(body[7:10], "little")
    if len(body) == 10 and kind == b"VP8 ":
        width, height = struct.unpack_from("<HH", body, 6)
        return width & 0x3FFF, height & 0x3FFF
    if len(body) == 10 and kind == b"VP8L":
        bits = int.from_bytes(body[1:5], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    raise DecodeError("damaged image: WebP without a header")


def icon_picture(payload: bytes) -> bytes | None:
    """The largest picture of an icon where it is a PNG file; None where it is a bitmap, which Pillow reads.

    Raises DecodeError where a bitmap is larger than icons are.
    """
    (count,) = struct.unpack_from("<H", payload, 4)
    entries = [struct.unpack_from("<BBBBHHII", payload, 6 + 16 * number) for number in range(min(count, 64))]
    if not entries:
        raise DecodeError("damaged image: an icon without a picture")
    *_, size, start = max(entries, key=lambda each: (each[0] or 256) * (each[1] or 256))
    picture = payload[start : start + size]
    if picture.startswith(b"\x89PNG"):
        return picture
    width, height = struct.unpack_from("<ii", picture, 4)
    if abs(width * height) > MOST_ICON_PIXELS:
        raise DecodeError(f"damaged image: an icon of {abs(width):,} × {abs(height):,} pixels")
    return None
