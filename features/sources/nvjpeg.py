"""JPEG files decoded by the GPU (nvJPEG), a batch at a time; what it does not take is left to Pillow."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO

import torch
from PIL import Image
from torchvision import io

from features.errors import TrunkError, first_line
from features.sources.decode import LARGE
from features.sources.formats.jpeg import END, open_jpeg
from features.sources.formats.orientation import UPRIGHT
from features.sources.formats.rules import Decoding


def decode_on_gpu(files: Sequence[bytes], device: torch.device, rules: Decoding) -> list[torch.Tensor | None]:
    """Decode whole, upright grey or RGB JPEG files to (3, h, w) uint8 on `device`; None for every other file.

    nvJPEG fills the rest of a file that was cut short with grey, so such files are told by their missing end.
    """
    plain = [number for number, file in enumerate(files) if _is_plain(file, rules)]
    images: list[torch.Tensor | None] = [None] * len(files)
    if plain:
        try:
            decoded: list[torch.Tensor | None] = [*_decode([files[number] for number in plain], device)]
        except RuntimeError:  # one damaged file refuses them all
            decoded = [_decode_or_none(files[number], device) for number in plain]
        for number, image in zip(plain, decoded, strict=True):
            images[number] = image
    return images


def check_nvjpeg(device: torch.device) -> None:
    """Raise TrunkError where torchvision cannot decode a JPEG file on `device`."""
    buffer = BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, "jpeg")
    try:
        _decode([buffer.getvalue()], device)
    except RuntimeError as error:
        raise TrunkError(f"`decoder=nvjpeg` does not work here ({first_line(error)}): use `decoder=pillow`") from error


def _decode(files: list[bytes], device: torch.device) -> list[torch.Tensor]:
    tensors = [torch.frombuffer(bytearray(file), dtype=torch.uint8) for file in files]
    return list(io.decode_jpeg(tensors, mode=io.ImageReadMode.RGB, device=device))


def _decode_or_none(file: bytes, device: torch.device) -> torch.Tensor | None:
    try:
        return _decode([file], device)[0]
    except torch.OutOfMemoryError:  # which files are decoded how must not depend on it
        raise
    except RuntimeError:
        return None


def _is_plain(file: bytes, rules: Decoding) -> bool:
    """Whether the file is a JPEG that has its end, is not turned or large, and is grey or in colour (no CMYK)."""
    if not file.startswith(b"\xff\xd8") or not file.rstrip(b"\0").endswith(END):
        return False
    try:
        jpeg = open_jpeg(file)
        with Image.open(BytesIO(jpeg.content), formats=["JPEG"]) as image:
            small = image.width * image.height <= min(rules.max_pixels, LARGE)
            return image.mode in ("L", "RGB") and jpeg.orientation == UPRIGHT and small
    except Exception:  # damaged headers make Pillow raise nearly anything; its own decoding says what
        return False
