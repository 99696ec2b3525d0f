from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from features.errors import TrunkError
from features.loop import run_batches
from features.trunk.trunk import Trunk
from tests.conftest import write_images


def test_an_image_that_does_not_fit_at_all(tiny_trunk: Trunk, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_memory(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(tiny_trunk, "forward", no_memory)
    with pytest.raises(TrunkError, match=r"one image of 16 px does not fit the memory of cpu: give a smaller"):
        list(run_batches([tiny_trunk], [[lambda: np.zeros((9, 9), np.uint8)] * 5]))


def test_images_in_memory_give_the_features_of_the_same_files(tiny_trunk: Trunk, tmp_path: Path) -> None:
    write_images(tmp_path, "red", 6)
    from PIL import Image

    paths = sorted(tmp_path.glob("*.png"))
    arrays = [np.array(Image.open(path)) for path in paths]
    (files,) = run_batches([tiny_trunk], [[path.read_bytes for path in paths]])
    (memory,) = run_batches([tiny_trunk], [[lambda array=array: array for array in arrays]])  # type: ignore[misc]
    assert np.array_equal(files.features[0], memory.features[0])
    assert set(files.seconds) == {"read", "decode", "look", "transform", "forward", "copy", "write"}


def test_threads_are_as_many_after_as_before(tiny_trunk: Trunk) -> None:
    before = torch.get_num_threads()
    list(run_batches([tiny_trunk], [[lambda: np.zeros((9, 9), np.uint8)]]))
    assert torch.get_num_threads() == before
