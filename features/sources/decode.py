"""One image's bytes to uint8 RGB, or a reason why not: the only way there is. Strict on damage, sensible on modes."""

from __future__ import annotations

import io
import math
import warnings
from functools import partial
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from features.errors import DecodeError, first_line
from features.sources.formats.headers import check_jpeg2000, icon_picture, kind_of, webp_size
from features.sources.formats.jpeg import check_holes, cut_short, looks_cut_short, open_jpeg
from features.sources.formats.orientation import ORIENTATION, UPRIGHT, orientation_of, upright
from features.sources.formats.png import missing_rows, open_png
from features.sources.formats.rules import Decoding
from features.sources.formats.tiff import read_tiff
from features.sources.source import Payload

warnings.filterwarnings("ignore", module=r"PIL\.")  # of damage, which is refused or does not matter
Image.MAX_IMAGE_PIXELS = None  # `max_pixels` is asked instead, before anything is decoded

DECODING = Decoding()

LARGE = 24_000_000
"""Pixels from which on an image is made smaller as it is decoded, and decoded while no other such image is."""

BYTES_A_PIXEL = 8
"""What an image may need while it is decoded, for each of `max_pixels`."""

NEEDED = {"JPEG": 7, "TIFF": 8, "WEBP": 18, "JPEG2000": 20, "AVIF": 14, "HEIF": 14}
"""What decoders need for each pixel at most, in bytes."""

NEEDED_BY_OTHERS = 7

_BAND = 512
"""Rows of a large image that are turned into RGB at once, a multiple of any factor that it is reduced by."""

_SIXTEEN_TO_EIGHT = np.rint(np.arange(2**16) / 257).astype(np.uint8)

_ALPHA_OR_NOT = ("BMP", "TGA")
"""Formats whose fourth byte means nothing where it is 0 throughout."""

NO_MEMORY = "needs more memory than there is: make the image smaller"

_one_large_image = Lock()


def decode(payload: Payload, rules: Decoding = DECODING) -> NDArray[np.uint8]:
    """Return the image as (h, w, 3) uint8 RGB; pixels that are grey already as (h, w, 1).

    The camera's orientation is applied, transparency laid on white, the first frame of an animation taken; images of
    more than LARGE pixels are halved until they have fewer. Raises DecodeError with a reason for what is empty, cut
    short, too large, no image, or an image of a format that is not read; nothing else, whatever the bytes are.
    """
    if isinstance(payload, np.ndarray):
        return payload if payload.ndim == 3 else payload[:, :, None]
    try:
        kind = kind_of(payload)
        if kind not in rules.formats:
            raise DecodeError(f"{kind}, which is not read here: convert it to {rules.formats[0]}")
        return _READERS.get(kind, _read_other)(payload, kind, rules)
    except DecodeError:
        raise
    except UnidentifiedImageError as error:
        raise DecodeError(f"damaged image: {kind} with a header that makes no sense") from error
    except MemoryError as error:
        raise DecodeError(NO_MEMORY) from error
    except Exception as error:  # damaged files make Pillow's codecs raise nearly anything, struct.error included
        raise DecodeError(f"damaged image: {first_line(error)}") from error


def upright_rgb(image: Image.Image) -> NDArray[np.uint8]:
    """A PIL image of any mode as (h, w, 3) uint8 RGB, by the rules of `decode`; raises DecodeError."""
    try:
        orientation = image.getexif().get(ORIENTATION, UPRIGHT)
    except Exception:  # nothing else is wanted of it
        orientation = UPRIGHT
    return upright(np.array(_to_rgb(image)), orientation)


def _read_jpeg(payload: bytes, kind: str, rules: Decoding) -> NDArray[np.uint8]:
    jpeg = open_jpeg(payload)
    check_holes(jpeg)
    load = partial(_load, kind=kind, rules=rules)
    try:
        pixels = load(jpeg.content)
        cut = looks_cut_short(jpeg, pixels)
    except OSError:  # its end is missing, or more
        cut = True
    return upright(cut_short(jpeg, load, rules.accept_truncated) if cut else pixels, jpeg.orientation)


def _read_png(payload: bytes, kind: str, rules: Decoding) -> NDArray[np.uint8]:
    png = open_png(payload, rules.max_pixels, rules.accept_truncated)
    pixels = _load(png.content, kind, rules)
    missing = png.missing
    if not missing and (pixels[-1] == pixels[-1, 0]).all():  # as rows are that were never written
        missing = missing_rows(png.content, rules.accept_truncated)
    pixels[len(pixels) - math.floor(len(pixels) * missing) :] = 128
    return upright(pixels, png.orientation)


def _read_tiff(payload: bytes, kind: str, rules: Decoding) -> NDArray[np.uint8]:
    return read_tiff(
        payload,
        lambda size, needed: _check_size(size, kind, needed, rules),
        partial(_load, kind=kind, rules=rules),  # Pillow turns TIFF files itself
    )


def _read_icon(payload: bytes, kind: str, rules: Decoding) -> NDArray[np.uint8]:
    picture = icon_picture(payload)
    return _load(payload, kind, rules) if picture is None else _read_png(picture, "PNG", rules)


def _read_other(payload: bytes, kind: str, rules: Decoding) -> NDArray[np.uint8]:
    if kind == "HEIF":
        import pillow_heif  # many sets have no HEIC files

        pillow_heif.register_heif_opener(thumbnails=False)
    if kind == "WEBP":
        _check_size(webp_size(payload), kind, NEEDED[kind], rules)  # opening it takes the memory already
    if kind == "JPEG2000":
        check_jpeg2000(payload)
    with Image.open(io.BytesIO(payload), formats=[kind]) as image:
        return upright(_pixels(image, kind, rules), orientation_of(image.info.get("exif")))


_READERS = {"JPEG": _read_jpeg, "PNG": _read_png, "TIFF": _read_tiff, "ICO": _read_icon}


def _load(content: bytes, kind: str, rules: Decoding) -> NDArray[np.uint8]:
    """Pixels as they are stored, (h, w, 3), whichever way up they are to be seen."""
    with Image.open(io.BytesIO(content), formats=[kind]) as image:
        return _pixels(image, kind, rules)


def _pixels(image: Image.Image, kind: str, rules: Decoding) -> NDArray[np.uint8]:
    _check_size(image.size, kind, NEEDED.get(kind, NEEDED_BY_OTHERS), rules)
    if image.width * image.height <= LARGE:
        image.load()
        return np.array(_to_rgb(image))
    factor = _factor(image.size)
    with _one_large_image:
        if kind == "JPEG":  # scaled as it is decoded
            image.draft("", (image.width // factor, image.height // factor))
        image.load()
        return _reduced(image, _factor(image.size))


def _check_size(size: tuple[int, int], kind: str, needed: int, rules: Decoding) -> None:
    """Raise DecodeError for more pixels, or pixels that need more bytes each, than the rules allow."""
    (width, height), most = size, rules.max_pixels
    if width * height > most or width * height * needed > BYTES_A_PIXEL * most:
        more = f" × {BYTES_A_PIXEL} / {needed} for {kind}" if width * height <= most else ""
        raise DecodeError(
            f"too many pixels ({width:,} × {height:,}, over `max_pixels={most}`{more}): make it smaller, or raise "
            "`max_pixels`"
        )


def _factor(size: tuple[int, int]) -> int:
    """The power of two by which both sides are divided, so that LARGE pixels are left at most."""
    return int(2 ** max(0, math.ceil(math.log2(size[0] * size[1] / LARGE) / 2)))


def _reduced(image: Image.Image, factor: int) -> NDArray[np.uint8]:
    """Means of `factor` × `factor` pixels, in RGB, without ever holding all of the image in RGB."""
    pixels = np.empty((-(-image.height // factor), -(-image.width // factor), 3), np.uint8)
    for top in range(0, image.height, _BAND):
        band = _to_rgb(image.crop((0, top, image.width, min(top + _BAND, image.height))))
        rows = np.asarray(band.reduce(factor))
        pixels[top // factor : top // factor + len(rows)] = rows
    return pixels


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode == "F":
        raise DecodeError("pixels are floating-point numbers: save the image with 8 or 16 bits")
    if image.mode.startswith("I"):
        return _from_sixteen_bits(np.asarray(image), image.info.get("transparency"))
    if image.format in _ALPHA_OR_NOT and image.mode == "RGBA" and image.getchannel("A").getextrema() == (0, 0):
        return image.convert("RGB")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image.convert("RGB")


def _from_sixteen_bits(values: NDArray[Any], transparent: object) -> Image.Image:
    """Grey of which 65535 is white, whatever else is in the image, (h, w) of any whole numbers."""
    grey = _SIXTEEN_TO_EIGHT[np.clip(values, 0, 65535)]
    if isinstance(transparent, int):
        grey[values == transparent] = 255
    return Image.fromarray(grey).convert("RGB")
