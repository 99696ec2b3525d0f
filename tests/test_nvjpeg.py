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
import torchvision
from PIL import Image

from features.errors import TrunkError
from features.loop import run_batches
from features.sources import nvjpeg
from features.sources.formats.rules import Decoding
from features.trunk.spec import TrunkOptions
from features.trunk.trunk import Trunk, build_trunk, rebuild_trunk
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

    monkeypatch.setattr("torchvision.io.decode_jpeg", decode)
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
    decoded = nvjpeg.decode_on_gpu(files, CPU, Decoding())
    assert given == [2]
    assert [image is not None for image in decoded] == [True, True] + [False] * 6
    assert all(image.shape == (3, 20, 30) for image in decoded if image is not None)


def test_a_damaged_file_alone_is_left_to_pillow(given: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    whole: Any = torchvision.io.decode_jpeg

    def refuse_grey(files: Sequence[torch.Tensor], **options: Any) -> list[torch.Tensor]:
        if any(len(file) == len(jpeg("L")) for file in files):
            raise RuntimeError("nvjpegDecodeBatched failed")
        decoded: list[torch.Tensor] = whole(files, **options)
        return decoded

    monkeypatch.setattr("torchvision.io.decode_jpeg", refuse_grey)
    decoded = nvjpeg.decode_on_gpu([jpeg(), jpeg("L"), jpeg()], CPU, Decoding())
    assert [image is not None for image in decoded] == [True, False, True]
    assert given == [1, 1]


def test_memory_does_not_decide_how_a_file_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_memory(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr("torchvision.io.decode_jpeg", no_memory)
    with pytest.raises(torch.OutOfMemoryError):
        nvjpeg.decode_on_gpu([jpeg()], CPU, Decoding())


def test_torchvision_without_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(*_: object, **__: object) -> None:
        raise RuntimeError("decode_jpegs_cuda: torchvision not compiled with nvJPEG support")

    monkeypatch.setattr("torchvision.io.decode_jpeg", absent)
    with pytest.raises(TrunkError, match=r"`decoder=nvjpeg` does not work here .*not compiled.*: use `decoder=pillow`"):
        nvjpeg.check_nvjpeg(CPU)


def test_features_are_those_of_pillow(given: list[int], tiny_trunk: Trunk) -> None:
    files = [jpeg(), turned(), b"rubbish", jpeg("L")]
    readers = [[lambda file=file: file for file in files]]
    (expected,) = run_batches([tiny_trunk], readers)
    tiny_trunk.spec = replace(tiny_trunk.spec, decoder="nvjpeg")
    (found,) = run_batches([tiny_trunk], readers)
    assert given == [2]
    assert [outcome.reason for outcome in found.outcomes] == ["", "", "not an image", ""]
    assert np.array_equal(found.features[0], expected.features[0])


def test_it_needs_a_gpu(caplog: pytest.LogCaptureFixture) -> None:
    options = TrunkOptions(backbone="resnet18", weights="random", image_size=32, precision="fp32")
    with pytest.raises(
        TrunkError, match=r"`decoder=nvjpeg` needs a CUDA GPU, but the device is cpu: use `decoder=pillow`"
    ):
        build_trunk(replace(options, decoder="nvjpeg"), CPU)
    made_there = replace(build_trunk(options, CPU).spec, decoder="nvjpeg")
    with caplog.at_level(logging.WARNING):
        assert rebuild_trunk([made_there], weights="random", device=CPU).spec.decoder == "pillow"
    assert "decoded by nvJPEG; here Pillow decodes them" in caplog.text
