"""What a node gives, to one vector an image: left as it is, or pooled over places so that the table stays narrow.

What a transformer has gathered after a block is its class token, alone or beside the mean of the patches, which is what
the linear probes of DINOv2 and DINOv3 see (Oquab et al., 2023); registers and distillation tokens are in neither.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

import torch
from torch.nn import functional

from features.errors import TrunkError

AUTO_COLUMNS = 10_000
"""`auto` leaves what has no more columns than this, and pools what has more until it has not."""

AUTO_GRID = 4
"""`auto` keeps at most this many places a side."""

CLS, CLS_MEAN = "cls", "cls_mean"

READINGS = (CLS, CLS_MEAN)
"""How the names of nodes end that are read from the tokens after a block, as `stage12.cls`."""


def resolve_pool(pool: str, shape: Sequence[int]) -> str:
    """Turn `none`, `avg`, `max`, `avgNxN` or `auto` into what is done to outputs of `shape` (without the batch).

    `shape` is (d,) for a vector, (tokens, d), or (channels, h, w). A vector is never pooled. Raises TrunkError for a
    name that is not known, or a grid over tokens.

    >>> resolve_pool("auto", (256, 6, 6)), resolve_pool("auto", (256, 13, 13)), resolve_pool("avg", (512,))
    ('none', 'avg4x4', 'none')
    """
    grid = grid_of(pool)
    if len(shape) == 1:
        return "none"
    if pool != "auto":
        if grid and len(shape) == 2:
            raise TrunkError(
                f"`pool={pool}` lays a grid over a map, but the node gives tokens: expected none, avg or max"
            )
        return pool
    if math.prod(shape) <= AUTO_COLUMNS:
        return "none"
    if len(shape) == 2:
        return "avg"
    side = max((n for n in range(1, AUTO_GRID + 1) if shape[0] * n * n <= AUTO_COLUMNS), default=1)
    return f"avg{side}x{side}"


def pool_output(output: torch.Tensor, pool: str) -> torch.Tensor:
    """Pool (n, d), (n, tokens, d) or (n, channels, h, w) by a name that `resolve_pool` gave; returns (n, columns).

    A grid finer than the map is cut down to the map's own.

    >>> maps = torch.arange(16.0).view(1, 1, 4, 4)
    >>> pool_output(maps, "avg2x2")
    tensor([[ 2.5000,  4.5000, 10.5000, 12.5000]])
    >>> pool_output(maps, "max")
    tensor([[15.]])
    """
    grid = grid_of(pool)
    if grid:
        height, width = output.shape[2:]
        output = functional.adaptive_avg_pool2d(output, (min(grid, height), min(grid, width)))
    elif pool != "none":
        places = 1 if output.ndim == 3 else (2, 3)
        output = output.mean(places) if pool == "avg" else output.amax(places)
    return output.flatten(start_dim=1)


def grid_of(pool: str) -> int:
    """The N of `avgNxN`, 0 for the other names; raises TrunkError for what is none of them."""
    match = re.fullmatch(r"avg([1-9]\d?)x\1", pool)
    if match:
        return int(match[1])
    if pool not in ("auto", "none", "avg", "max"):
        raise TrunkError(f"unknown pooling {pool!r}: expected auto, none, avg, max, or avgNxN such as avg4x4")
    return 0


def read_tokens(tokens: torch.Tensor, reading: str, prefix: int = 1) -> torch.Tensor:
    """The class token, which is the first, of (n, tokens, d) as (n, d); CLS_MEAN makes (n, 2 d).

    `prefix` tokens come before those of the patches.

    >>> tokens = torch.tensor([[[1.0], [9.0], [2.0], [4.0]]])
    >>> read_tokens(tokens, "cls").tolist(), read_tokens(tokens, "cls_mean", prefix=2).tolist()
    ([[1.0]], [[1.0, 3.0]])
    """
    cls = tokens[:, 0]
    return cls if reading == CLS else torch.cat([cls, tokens[:, prefix:].mean(dim=1)], dim=1)
