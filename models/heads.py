"""The heads there are, by name."""

from __future__ import annotations

from typing import Any

import torch

from models.base import Head
from models.boosted import BoostedHead
from models.linear import LinearHead
from models.mlp import MlpHead
from models.settings import HEAD_SETTINGS

HEADS: dict[str, type[Head]] = {head.name: head for head in (BoostedHead, LinearHead, MlpHead)}


def make_head(name: str, *, settings: Any = None, seed: int, device: torch.device) -> Head:
    """Make a head yet to be fitted; `name` is one of HEADS, `settings` default to its own."""
    return HEADS[name](settings or HEAD_SETTINGS[name], seed=seed, device=device)
