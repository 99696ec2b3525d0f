"""The heads there are, by name."""

from __future__ import annotations

from typing import Any

import torch

from models.heads.boosted import BoostedHead
from models.heads.head import Head
from models.heads.hybrid import HybridHead
from models.heads.knn import KnnHead
from models.heads.linear import LinearHead
from models.heads.mlp import MlpHead
from models.heads.settings import HEAD_SETTINGS

HEADS: dict[str, type[Head]] = {head.name: head for head in (BoostedHead, LinearHead, MlpHead, KnnHead, HybridHead)}


def make_head(name: str, *, settings: Any = None, seed: int, device: torch.device) -> Head:
    """Make a head yet to be fitted; `name` is one of HEADS, `settings` default to its own."""
    settings = settings or HEAD_SETTINGS[name]
    if name == HybridHead.name:
        parts = [make_head(part, seed=seed, device=device) for part in settings.parts]
        return HybridHead(settings, seed=seed, device=device, parts=parts)
    return HEADS[name](settings, seed=seed, device=device)
