"""An image as it comes back changed: the near-doubles that a threshold is calibrated on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageEnhance, ImageOps

Pixels = NDArray[np.uint8]
"""(h, w, 3) RGB."""

Change = Callable[[Image.Image, np.random.Generator], Image.Image]

SAMPLE = 150
"""Images of a set that are changed, in each of the ways: a few seconds of a network's time."""


def recompressed(image: Image.Image, random: np.random.Generator) -> Image.Image:
    """As JPEG of quality 60."""
    file = BytesIO()
    image.save(file, "JPEG", quality=60)
    return Image.open(file).convert("RGB")


def resized(image: Image.Image, random: np.random.Generator) -> Image.Image:
    """To 0.8 of its sides."""
    return image.resize((max(1, round(0.8 * image.width)), max(1, round(0.8 * image.height))))


def cropped(image: Image.Image, random: np.random.Generator) -> Image.Image:
    """To 0.9 of its sides, anywhere."""
    width, height = max(1, round(0.9 * image.width)), max(1, round(0.9 * image.height))
    left = int(random.integers(image.width - width + 1))
    top = int(random.integers(image.height - height + 1))
    return image.crop((left, top, left + width, top + height))


def mirrored(image: Image.Image, random: np.random.Generator) -> Image.Image:
    """Left for right."""
    return ImageOps.mirror(image)


def brightness(image: Image.Image, random: np.random.Generator) -> Image.Image:
    """Brighter or darker by a fifth."""
    return ImageEnhance.Brightness(image).enhance(float(random.choice((0.8, 1.2))))


CHANGES: Mapping[str, Change] = {
    change.__name__: change for change in (recompressed, resized, cropped, mirrored, brightness)
}
"""Each way by its name."""


def changed(image: Pixels, random: np.random.Generator) -> list[Pixels]:
    """An image in each of the ways, in the order of CHANGES."""
    return [np.array(change(Image.fromarray(image), random)) for change in CHANGES.values()]


def sampled(images: int, seed: int) -> NDArray[np.int64]:
    """Which of so many images to change, in order."""
    return np.sort(np.random.default_rng(seed).permutation(images)[:SAMPLE])
