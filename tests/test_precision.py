"""How far bfloat16, and torch's resizing, move features and a probe's accuracy away from Pillow and float32."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from scipy.stats import binomtest
from sklearn.datasets import load_sample_images
from sklearn.linear_model import LogisticRegression
from torchvision.models import AlexNet_Weights

from features import devices
from features.devices import has_cpu_bf16, resolve_precision
from features.errors import DeviceError
from features.loop import run_batches
from features.sources.options import SourceOptions
from features.sources.registry import open_source
from features.sources.source import Source
from features.trunk.spec import TrunkOptions
from features.trunk.trunk import Trunk, build_trunk
from tests.conftest import CPU

SHARED = Path(__file__).parent.parent.parent / "shared"
IMAGENET = SHARED / "weights/alexnet-imagenet-features.safetensors"

RESIZE_TOLERANCE = 0.02
"""Of a feature vector's length: how far torch's resizing on uint8 may move it from Pillow's."""

BF16_TOLERANCE = 0.05
"""The same of bfloat16 from float32."""

needs_imagenet = pytest.mark.skipif(not IMAGENET.exists(), reason=f"no ImageNet weights at {IMAGENET}")


def trunk(precision: str) -> Trunk:
    weights = str(IMAGENET) if IMAGENET.exists() else "random"
    return build_trunk(TrunkOptions(backbone="alexnet", weights=weights, precision=precision), CPU)


def through(trunk: Trunk, files: list[bytes]) -> NDArray[np.float32]:
    size = trunk.batch_images
    parts = [[lambda file=file: file for file in files[i : i + size]] for i in range(0, len(files), size)]
    return np.concatenate([batch.features[0] for batch in run_batches([trunk], parts)]).astype(np.float32)


def reference(trunk: Trunk, files: list[bytes]) -> NDArray[np.float32]:
    """Pillow's resizing by the recipe of the weights, and float32 throughout."""
    recipe = AlexNet_Weights.IMAGENET1K_V1.transforms()
    vectors = []
    with torch.inference_mode():
        for file in files:
            image = Image.open(io.BytesIO(file)).convert("RGB")
            vectors.append(trunk.module(recipe(image)[None])[trunk.spec.node].flatten().numpy())
    return np.stack(vectors)


def photographs(count: int) -> list[bytes]:
    """Crops of scikit-learn's two photographs, of many sizes, as JPEG files."""
    random = np.random.default_rng(0)
    files = []
    for number in range(count):
        pixels = load_sample_images().images[number % 2]
        height, width = random.integers(60, 400, 2)
        buffer = io.BytesIO()
        Image.fromarray(pixels[:height, :width]).save(buffer, "jpeg")
        files.append(buffer.getvalue())
    return files


def distance(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float32]:
    """How far each vector of `a` is from that of `b`, as a share of the latter's length."""
    shares: NDArray[np.float32] = np.linalg.norm(a - b, axis=1) / np.linalg.norm(b, axis=1)
    return shares


def test_resizing_stays_within_its_tolerance() -> None:
    files, exact = photographs(24), trunk("fp32")
    assert distance(through(exact, files), reference(exact, files)).max() < RESIZE_TOLERANCE


def test_bf16_stays_within_its_tolerance() -> None:
    files = photographs(12)
    assert distance(through(trunk("bf16"), files), through(trunk("fp32"), files)).max() < BF16_TOLERANCE


@pytest.mark.slow
@needs_imagenet
def test_a_probe_is_as_accurate_on_each() -> None:
    source = open_source(str(SHARED / "data/clothing"), SourceOptions(train_limit=500))
    train, y = files_of(source, "train")
    test, expected = files_of(source, "test")
    exact, brief = trunk("fp32"), trunk("bf16")
    right = [
        probe(reference(exact, train), y, reference(exact, test)) == expected,
        probe(through(exact, train), y, through(exact, test)) == expected,
        probe(through(brief, train), y, through(brief, test)) == expected,
    ]
    interval = binomtest(int(right[0].sum()), len(expected)).proportion_ci(method="wilson")
    for accuracy in (right[1].mean(), right[2].mean()):
        assert interval.low <= accuracy <= interval.high


def files_of(source: Source, split: str) -> tuple[list[bytes], NDArray[np.int32]]:
    items = source.items[source.items["split"] == split]
    return [bytes(source.read(int(row))) for row in items.index], items["label"].to_numpy()


def probe(x: NDArray[np.float32], y: NDArray[np.int32], test: NDArray[np.float32]) -> NDArray[np.int32]:
    """What a linear probe says of `test`."""
    scale = np.sqrt(np.mean(np.square(x)))
    predicted: NDArray[np.int32] = (
        LogisticRegression(C=10 / len(x), max_iter=50).fit(x / scale, y).predict(test / scale)
    )
    return predicted


@pytest.mark.parametrize(("capable", "expected"), [({"avx512_bf16": True}, "bf16"), ({"avx2": True}, "fp32")])
def test_auto_takes_what_the_processor_has(
    capable: dict[str, bool], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capable, raising=False)
    assert resolve_precision("auto", CPU) == expected
    assert resolve_precision("fp32", CPU) == "fp32"


def test_a_precision_that_the_processor_emulates_is_said(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", dict, raising=False)
    assert not has_cpu_bf16()
    devices._warn_of_emulation.cache_clear()
    for _ in range(2):
        build_trunk(TrunkOptions(backbone="resnet18", image_size=32, precision="bf16"), CPU)
    assert caplog.text.count("this CPU has no bf16 arithmetic: it will be many times slower than fp32") == 1


def test_unknown_precision() -> None:
    with pytest.raises(DeviceError, match=r"unknown precision 'fp8': expected auto, fp32, bf16, fp16"):
        resolve_precision("fp8", CPU)
