"""JPEG files decoded by the GPU (nvJPEG), a batch at a time; what it does not take is left to Pillow."""

from __future__ import annotations

import io
from collections.abc import Sequence

import torch
from PIL import Image
from torchvision.io import ImageReadMode, decode_jpeg

END_OF_IMAGE = b"\xff\xd9"

TRAILER = 4096
"""Bytes at a file's end in which its end-of-image marker is looked for: some cameras append a little."""


def decode_on_gpu(files: Sequence[bytes], device: torch.device) -> list[torch.Tensor | None]:
    """Decode whole, upright grey or RGB JPEG files to (3, h, w) uint8 on `device`; None for every other file.

    nvJPEG fills the rest of a file that was cut short with grey, so such files are told by their missing end.
    """
    plain = [number for number, file in enumerate(files) if _is_plain(file)]
    images: list[torch.Tensor | None] = [None] * len(files)
    if plain:
        tensors = [torch.frombuffer(bytearray(files[number]), dtype=torch.uint8) for number in plain]
        try:
            decoded = decode_jpeg(tensors, mode=ImageReadMode.RGB, device=device)
        except RuntimeError:  # one damaged file refuses them all: Pillow tells which
            return images
        for number, image in zip(plain, decoded, strict=True):
            images[number] = image
    return images


def _is_plain(file: bytes) -> bool:
    """Whether the file is a JPEG that has its end, is not turned, and is grey or in colour (no CMYK)."""
    if not file.startswith(b"\xff\xd8") or END_OF_IMAGE not in file[-TRAILER:]:
        return False
    try:
        with Image.open(io.BytesIO(file)) as image:
            turned = image.getexif().get(0x0112, 1) != 1
            bomb = bool(Image.MAX_IMAGE_PIXELS) and image.width * image.height > (Image.MAX_IMAGE_PIXELS or 0)
            return image.mode in ("L", "RGB") and not turned and not bomb
    except Exception:  # damaged headers make Pillow raise nearly anything; its own decoding says what
        return False
