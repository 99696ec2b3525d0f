"""The GPU's decoder is played by one on the CPU: which files it gets is tested, and what becomes of the others."""

from __future__ import annotations

import io
import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from features import nvjpeg
from features.batches import run_batches
from features.errors import TrunkError
from features.trunks import Trunk, TrunkOptions, build_trunk, rebuild_trunk
from tests.conftest import CPU


def jpeg(mode: str = "RGB", **options: Any) -> bytes:
    noise = np.random.default_rng(0).integers(0, 256, (20, 30, 3)).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).convert(mode).save(buffer, "jpeg", **options)
    return buffer.getvalue()


def turned() -> bytes:
    exif = Image.new("RGB", (1, 1)).getexif()
    exif[0x0112] = 6
    return jpeg(exif=exif)


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many files the decoder was given in each call."""
    calls: list[int] = []

    def decode(files: Sequence[torch.Tensor], *, mode: Any, device: torch.device) -> list[torch.Tensor]:
        calls.append(len(files))
        images = [Image.open(io.BytesIO(bytes(file.tolist()))).convert("RGB") for file in files]
        return [torch.from_numpy(np.array(image)).permute(2, 0, 1) for image in images]

    monkeypatch.setattr(nvjpeg, "decode_jpeg", decode)
    return calls


def test_only_plain_jpegs_go_to_the_gpu(given: list[int]) -> None:
    png = io.BytesIO()
    Image.new("RGB", (3, 3)).save(png, "png")
    files = [
        jpeg(),
        jpeg("L"),
        jpeg("CMYK"),
        turned(),
        jpeg()[:-200],
        png.getvalue(),
        b"",
        b"\xff\xd8 rubbish \xff\xd9",
    ]
    decoded = nvjpeg.decode_on_gpu(files, CPU)
    assert given == [2]
    assert [image is not None for image in decoded] == [True, True] + [False] * 6
    assert all(image.shape == (3, 20, 30) for image in decoded if image is not None)


def test_a_damaged_file_leaves_the_batch_to_pillow(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise RuntimeError("nvjpegDecodeBatched failed")

    monkeypatch.setattr(nvjpeg, "decode_jpeg", refuse)
    assert nvjpeg.decode_on_gpu([jpeg(), jpeg()], CPU) == [None, None]


def test_features_are_those_of_pillow(given: list[int], tiny_trunk: Trunk) -> None:
    files = [jpeg(), turned(), b"rubbish", jpeg("L")]
    readers = [[lambda file=file: file for file in files]]
    (expected,) = run_batches(tiny_trunk, readers)
    tiny_trunk.spec = replace(tiny_trunk.spec, decoder="nvjpeg")
    (found,) = run_batches(tiny_trunk, readers)
    assert given == [2]
    assert [outcome.reason for outcome in found.outcomes] == ["", "", "not an image", ""]
    assert np.array_equal(found.features[0], expected.features[0])


def test_it_needs_a_gpu(caplog: pytest.LogCaptureFixture) -> None:
    options = TrunkOptions(backbone="resnet18", image_size=32, precision="fp32")
    with pytest.raises(
        TrunkError, match=r"--decoder nvjpeg needs a CUDA GPU, but the device is cpu: use --decoder pillow"
    ):
        build_trunk(replace(options, decoder="nvjpeg"), CPU)
    made_there = replace(build_trunk(options, CPU).spec, decoder="nvjpeg")
    with caplog.at_level(logging.WARNING):
        assert rebuild_trunk([made_there], weights="random", device=CPU).spec.decoder == "pillow"
    assert "decoded by nvJPEG; here Pillow decodes them" in caplog.text
