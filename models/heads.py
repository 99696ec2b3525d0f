"""The heads there are, by name."""

from __future__ import annotations

from typing import Any

import torch

from models.base import Head
from models.boosted import BoostedHead
from models.hybrid import HybridHead
from models.knn import KnnHead
from models.linear import LinearHead
from models.mlp import MlpHead
from models.settings import HEAD_SETTINGS

HEADS: dict[str, type[Head]] = {head.name: head for head in (BoostedHead, LinearHead, MlpHead, KnnHead, HybridHead)}


def make_head(name: str, *, settings: Any = None, seed: int, device: torch.device) -> Head:
    """Make a head yet to be fitted; `name` is one of HEADS, `settings` default to its own."""
    settings = settings or HEAD_SETTINGS[name]
    if name == HybridHead.name:
        parts = [make_head(part, seed=seed, device=device) for part in settings.parts]
        return HybridHead(settings, seed=seed, device=device, parts=parts)
    return HEADS[name](settings, seed=seed, device=device)
