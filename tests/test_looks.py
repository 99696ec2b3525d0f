from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter

from features.looks import LOOKS, look
from tests.conftest import write_images
from tests.test_table import make_table


def looks_of(image: Image.Image) -> dict[str, float]:
    pixels = torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1)[None]
    return dict(zip(LOOKS, look(pixels)[0].tolist(), strict=True))


@pytest.fixture
def noisy() -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (224, 224, 3), dtype=np.uint8))


def test_a_blurred_image_is_less_sharp_at_any_brightness(noisy: Image.Image) -> None:
    blurred = noisy.filter(ImageFilter.GaussianBlur(4))
    darker = noisy.point(lambda value: value // 3)
    assert looks_of(blurred)["sharpness"] < 0.3 * looks_of(noisy)["sharpness"]
    assert looks_of(darker)["sharpness"] == pytest.approx(looks_of(noisy)["sharpness"], rel=0.05)
    assert looks_of(darker)["brightness"] == pytest.approx(looks_of(noisy)["brightness"] / 3, rel=0.05)


@pytest.mark.parametrize("grey", [0, 7, 128, 255])
def test_one_grey_has_neither_contrast_nor_sharpness(grey: int) -> None:
    found = looks_of(Image.new("L", (224, 180), grey))
    assert found["contrast"] == pytest.approx(0, abs=1e-3)
    assert found["sharpness"] == 0
    assert found["red"] == found["blue"] == pytest.approx(grey / 255, abs=1e-3)


def test_colours_are_told_apart() -> None:
    found = looks_of(Image.new("RGB", (40, 40), (255, 0, 51)))
    assert [found["red"], found["green"], found["blue"]] == pytest.approx([1, 0, 0.2], abs=1e-3)


@pytest.mark.parametrize("shape", [(0, 3, 224, 224), (2, 1, 1, 1), (1, 3, 2, 300)])
def test_sizes_at_the_edge(shape: tuple[int, ...]) -> None:
    found = look(torch.zeros(shape, dtype=torch.uint8))
    assert found.shape == (shape[0], len(LOOKS))
    assert np.isfinite(found).all()


def test_a_table_tells_of_each_image(tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    write_images(photos / "red", "red", 12)
    write_images(photos / "blue", "blue", 12)
    Image.new("RGB", (50, 30), (0, 0, 0)).save(photos / "red" / "black.png")
    told: dict[Any, Any] = make_table(photos, tmp_path / "table").images().set_index("key").to_dict("index")
    black, red = told["red/black.png"], told["red/000.png"]
    content = (photos / "red" / "black.png").read_bytes()
    assert (black["width"], black["height"], black["bytes"]) == (50, 30, len(content))
    assert black["sha256"] == hashlib.sha256(content).hexdigest()
    assert black["brightness"] == 0
    assert (red["width"], red["height"]) == (24, 20)
    assert red["red"] > 2 * red["blue"]
