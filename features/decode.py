"""One image's bytes to uint8 RGB, or a reason why not. Strict about damage, sensible about modes."""

from __future__ import annotations

import io
import warnings

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from features.errors import DecodeError
from features.sources.base import Payload


def decode(payload: Payload) -> NDArray[np.uint8]:
    """Return the image as (h, w, 3) uint8 RGB.

    The camera's orientation is applied, transparency laid on white, the first frame of an animation taken. Raises
    DecodeError with a reason for what is empty, cut short, too large to be true, or no image.
    """
    if isinstance(payload, np.ndarray):
        return payload if payload.ndim == 3 else np.repeat(payload[:, :, None], 3, axis=2)
    if not payload:
        raise DecodeError("empty file")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(payload)) as image:
                image.load()
                return np.asarray(_to_rgb(ImageOps.exif_transpose(image)))
    except UnidentifiedImageError as error:
        raise DecodeError("not an image") from error
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise DecodeError("too many pixels: a decompression bomb") from error
    except Exception as error:  # damaged files make Pillow's codecs raise nearly anything, struct.error included
        raise DecodeError(f"damaged image: {error}") from error


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16") or image.mode in ("I", "F"):
        return Image.fromarray(_to_eight_bits(np.asarray(image, dtype=np.float32))).convert("RGB")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image.convert("RGB")


def _to_eight_bits(values: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Scale 16-bit grey to 0..255; what already fits 8 bits is kept as it is."""
    scale = 257 if values.max(initial=0) > 255 else 1
    return np.clip(np.rint(values / scale), 0, 255).astype(np.uint8)
