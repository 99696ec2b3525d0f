from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from features.errors import DecodeError
from features.sources.decode import decode
from features.sources.formats.rules import Decoding
from tests.conftest import encoded


@pytest.mark.parametrize(
    ("image", "kind", "expected"),
    [
        (Image.new("RGB", (3, 2), (10, 20, 30)), "png", (10, 20, 30)),
        (Image.new("L", (3, 2), 77), "png", (77, 77, 77)),
        (Image.new("1", (3, 2), 1), "png", (255, 255, 255)),
        (Image.new("RGB", (3, 2), (0, 0, 255)).convert("P"), "png", (0, 0, 255)),
        (Image.new("RGBA", (3, 2), (0, 0, 0, 0)), "png", (255, 255, 255)),
        (Image.new("LA", (3, 2), (9, 255)), "png", (9, 9, 9)),
        (Image.new("CMYK", (3, 2), (0, 0, 0, 0)), "tiff", (255, 255, 255)),
        (Image.fromarray(np.full((2, 3), 65535, np.uint16)), "png", (255, 255, 255)),
        (Image.fromarray(np.full((2, 3), 257 * 12, np.uint16)), "png", (12, 12, 12)),
        (Image.fromarray(np.full((2, 3), 100, np.uint16)), "png", (0, 0, 0)),
    ],
)
def test_every_mode_becomes_rgb(image: Image.Image, kind: str, expected: tuple[int, int, int]) -> None:
    pixels = decode(encoded(image, kind))
    assert pixels.shape == (2, 3, 3)
    assert pixels.dtype == np.uint8
    assert (pixels == expected).all()


def test_transparent_palette_lies_on_white() -> None:
    image = Image.new("P", (3, 2), 0)
    image.putpalette([0, 0, 0])
    assert (decode(encoded(image, transparency=0)) == 255).all()


def test_orientation_is_applied() -> None:
    image = Image.new("RGB", (4, 2))
    exif = image.getexif()
    exif[0x0112] = 6
    assert decode(encoded(image, "jpeg", exif=exif)).shape == (4, 2, 3)


def test_first_frame_of_an_animation() -> None:
    frames = [Image.new("RGB", (3, 2), colour) for colour in ("red", "blue")]
    assert (decode(encoded(frames[0], "gif", save_all=True, append_images=frames[1:])) == (255, 0, 0)).all()


def test_pixels_stay_as_they_are() -> None:
    assert decode(np.full((2, 3), 5, np.uint8)).tolist() == np.full((2, 3, 1), 5).tolist()
    assert decode(np.full((2, 3, 3), 5, np.uint8)).tolist() == np.full((2, 3, 3), 5).tolist()


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"", "empty file"),
        (b"no image at all", "not an image"),
        (encoded(Image.new("F", (3, 2), 0.5), "tiff"), "floating-point numbers: save the image with 8 or 16 bits"),
        (
            encoded(Image.new("RGB", (200, 200), "red"), "jpeg")[:-300],
            r"^cut short: \d+ % of its rows are missing",
        ),
    ],
)
def test_what_is_no_image_has_a_reason(payload: bytes, reason: str) -> None:
    with pytest.raises(DecodeError, match=reason):
        decode(payload)


@pytest.mark.parametrize("kind", ["png", "jpeg", "tiff", "webp", "gif", "bmp", "jpeg2000", "avif", "ppm"])
def test_too_many_pixels_are_refused_before_they_are_decoded(kind: str) -> None:
    image = encoded(Image.new("RGB", (12, 12)), kind)
    with pytest.raises(DecodeError, match=r"too many pixels .*12 × 12, .*`max_pixels=100`.*or raise `max_pixels`"):
        decode(image, Decoding(max_pixels=100))
    assert decode(image, Decoding(max_pixels=1000)).shape == (12, 12, 3)
