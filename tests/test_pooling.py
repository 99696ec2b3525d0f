from __future__ import annotations

import pytest
import torch

from features.errors import TrunkError
from features.trunk.pooling import pool_output, resolve_pool


@pytest.mark.parametrize(
    ("pool", "shape", "expected"),
    [
        ("auto", (256, 6, 6), "none"),
        ("auto", (192, 27, 27), "avg4x4"),
        ("auto", (512, 7, 7), "avg4x4"),
        ("auto", (2048, 7, 7), "avg2x2"),
        ("auto", (20_000, 2, 2), "avg1x1"),
        ("auto", (197, 768), "avg"),
        ("auto", (4, 768), "none"),
        ("auto", (50_000,), "none"),
        ("avg3x3", (64,), "none"),
        ("max", (64, 5, 5), "max"),
        ("avg12x12", (64, 5, 5), "avg12x12"),
    ],
)
def test_what_each_name_comes_to(pool: str, shape: tuple[int, ...], expected: str) -> None:
    assert resolve_pool(pool, shape) == expected


@pytest.mark.parametrize("pool", ["mean", "avg0x0", "avg2x3", ""])
def test_unknown_names(pool: str) -> None:
    with pytest.raises(TrunkError, match=rf"unknown pooling '{pool}': expected auto, none, avg, max, or avgNxN"):
        resolve_pool(pool, (3, 4, 4))


def test_tokens_have_no_grid() -> None:
    with pytest.raises(TrunkError, match=r"`pool=avg2x2` lays a grid over a map, but the node gives tokens"):
        resolve_pool("avg2x2", (197, 768))


def test_pooling_a_map() -> None:
    map_ = torch.arange(16.0).reshape(1, 1, 4, 4)
    assert pool_output(map_, "none").tolist() == [list(range(16))]
    assert pool_output(map_, "avg").tolist() == [[7.5]]
    assert pool_output(map_, "max").tolist() == [[15]]
    assert pool_output(map_, "avg2x2").tolist() == [[2.5, 4.5, 10.5, 12.5]]
    assert pool_output(map_, "avg9x9").tolist() == [list(range(16))]


def test_pooling_tokens_and_vectors() -> None:
    tokens = torch.tensor([[[1.0, 5.0], [3.0, 1.0]]])
    assert pool_output(tokens, "avg").tolist() == [[2, 3]]
    assert pool_output(tokens, "max").tolist() == [[3, 5]]
    assert pool_output(tokens, "none").tolist() == [[1, 5, 3, 1]]
    assert pool_output(torch.tensor([[1.0, 2.0]]), "none").tolist() == [[1, 2]]
