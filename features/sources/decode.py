"""One image's bytes to uint8 RGB, or a reason why not. Strict about damage, sensible about modes."""

from __future__ import annotations

import io
import warnings

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from features.errors import DecodeError
from features.sources.source import Payload

warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # such images are refused below


def decode(payload: Payload) -> NDArray[np.uint8]:
    """Return the image as (h, w, 3) uint8 RGB; pixels that are grey already as (h, w, 1).

    The camera's orientation is applied, transparency laid on white, the first frame of an animation taken. Raises
    DecodeError with a reason for what is empty, cut short, too large to be true, or no image.
    """
    if isinstance(payload, np.ndarray):
        return payload if payload.ndim == 3 else payload[:, :, None]
    if not payload:
        raise DecodeError("empty file")
    try:
        with Image.open(io.BytesIO(payload)) as image:
            if Image.MAX_IMAGE_PIXELS and image.width * image.height > Image.MAX_IMAGE_PIXELS:
                raise Image.DecompressionBombError
            image.load()
            return upright_rgb(image)
    except UnidentifiedImageError as error:
        raise DecodeError("not an image") from error
    except Image.DecompressionBombError as error:
        raise DecodeError("too many pixels: a decompression bomb") from error
    except (DecodeError, MemoryError):  # memory is the machine's matter: no verdict on a file
        raise
    except Exception as error:  # damaged files make Pillow's codecs raise nearly anything, struct.error included
        raise DecodeError(f"damaged image: {error}") from error


def upright_rgb(image: Image.Image) -> NDArray[np.uint8]:
    """An opened image of any mode as (h, w, 3) uint8 RGB, by the rules of `decode`; raises DecodeError."""
    return np.array(_to_rgb(ImageOps.exif_transpose(image)))


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "F":
        raise DecodeError("pixels are floating-point numbers: save the image with 8 or 16 bits")
    if image.mode.startswith("I"):
        values = np.asarray(image, dtype=np.float32) / 257  # 65535 is 255, whatever else is in the image
        return Image.fromarray(np.clip(np.rint(values), 0, 255).astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image.convert("RGB")
