"""What a file is by its first bytes, whatever its name, and what Pillow must not be asked of rarer formats."""

from __future__ import annotations

import re
import struct

from features.errors import DecodeError
from features.sources.formats.rules import FORMATS

_READ = {
    "JPEG": rb"\xff\xd8\xff",
    "PNG": rb"\x89PNG\r\n\x1a\n",
    "GIF": rb"GIF8[79]a",
    "WEBP": rb"RIFF....WEBP",
    "JPEG2000": rb"\xff\x4f\xff\x51|\0\0\0\x0cjP  \r\n\x87\n",
    "PPM": rb"P[1-6f]\s",
    "BMP": rb"BM",
    "ICO": rb"\0\0\x01\0",
}

_TIFF = {"TIFF": rb"II\*\0|MM\0\*|II\+\0|MM\0\+"}  # behind raw files, which are TIFF files as well

_JPEG_OR_PNG = "which is not read: convert it to JPEG or PNG"
_RAW = "a camera's raw file, which is not read: develop it to JPEG"

_NOT_READ = {
    _RAW: rb"II\*\0....CR|II(RO|RS|U\0)|MMOR|FUJIFILMCCD-RAW|FOVb|\0MRM",
    f"JPEG XL, {_JPEG_OR_PNG}": rb"\xff\x0a|\0\0\0\x0cJXL \r\n\x87\n",
    f"PostScript, {_JPEG_OR_PNG}": rb"%!PS|\xc5\xd0\xd3\xc6",
    f"PDF, {_JPEG_OR_PNG}": rb"%PDF",
    f"SVG, {_JPEG_OR_PNG}": rb"(?i:\s*<svg\b|\s*<\?xml[^>]*>.{0,500}?<svg\b)",
    f"Photoshop (PSD), {_JPEG_OR_PNG}": rb"8BPS",
    f"GIMP (XCF), {_JPEG_OR_PNG}": rb"gimp xcf",
    f"DICOM, {_JPEG_OR_PNG}": rb".{128}DICM",
    f"FITS, {_JPEG_OR_PNG}": rb"SIMPLE  =",
    f"OpenEXR, {_JPEG_OR_PNG}": rb"\x76\x2f\x31\x01",
    f"Radiance HDR, {_JPEG_OR_PNG}": rb"#\?RADIANCE|#\?RGBE",
    f"DDS, {_JPEG_OR_PNG}": rb"DDS ",
    f"QOI, {_JPEG_OR_PNG}": rb"qoif",
    f"JPEG XR, {_JPEG_OR_PNG}": rb"II\xbc\x01",
    f"HDF5, {_JPEG_OR_PNG}": rb"\x89HDF\r\n\x1a\n",
    f"a Windows metafile (WMF, EMF), {_JPEG_OR_PNG}": rb"\xd7\xcd\xc6\x9a|\x01\0\0\0.{36} EMF",
    f"an Office or OLE document, {_JPEG_OR_PNG}": rb"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1",
    "a NumPy array, which is not read: save it as PNG": rb"\x93NUMPY",
    "a pointer of Git LFS and not the image: fetch it with git lfs pull": rb"version https://git-lfs",
    "a web page (HTML) and not the image: fetch it again": rb"(?i:\s*<(!doctype html|html|head|body)\b)",
    "an XML or JSON message and not the image: fetch it again": rb"\s*(<\?xml|\{\s*\")",
    "an archive (ZIP, gzip, tar …), which is not read: unpack it": rb"PK\x03\x04|\x1f\x8b|7z\xbc\xaf|Rar!|.{257}ustar",
    "a video, which is not read: save its frames as JPEG or PNG": rb"\x1aE\xdf\xa3|RIFF....AVI |\0\0\x01[\xb3\xba]",
}
"""What else is known, and what would help."""

_VIDEO = "a video (MP4, MOV), which is not read: save its frames as JPEG or PNG"

_BRANDS = {
    **dict.fromkeys((b"avif", b"avis"), "AVIF"),
    **dict.fromkeys((b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"), "HEIF"),
    b"crx ": _RAW,
}
"""What a file of ISO's base media format (`ftyp`) is, by its brand."""

_KNOWN = {kind: re.compile(first, re.DOTALL) for kind, first in (_READ | _NOT_READ | _TIFF).items()}

_CODESTREAM = re.compile(rb"\xff\x4f\xff\x51..", re.DOTALL)

MOST_ICON_PIXELS = 2**22


def kind_of(payload: bytes) -> str:
    """One of FORMATS; raises DecodeError that says what the file is instead."""
    if not payload:
        raise DecodeError("empty file")
    if payload[4:8] == b"ftyp":
        kind = _of_brand(payload)
    elif payload[-18:-2] == b"TRUEVISION-XFILE":  # earlier TGA files have nothing to know them by
        kind = "TGA"
    else:
        kind = next((kind for kind, first in _KNOWN.items() if first.match(payload)), "")
    if not kind and not any(payload[: 2**16]) and not payload.strip(b"\0"):
        raise DecodeError("holds nothing but zeros: fetch it again")
    if kind not in FORMATS:
        raise DecodeError(kind or "not an image")
    return kind


def _of_brand(payload: bytes) -> str:
    """What the major brand says, else the first of the compatible ones that is known."""
    end = min(int.from_bytes(payload[:4], "big"), 512)
    brands = [payload[8:12], *(payload[start : start + 4] for start in range(16, end, 4))]
    if brands[0] in (b"mif1", b"msf1"):  # any image: the others say which
        brands = [*brands[1:], brands[0]]
    return next((_BRANDS[brand] for brand in brands if brand in _BRANDS), _VIDEO)


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
