"""The heads there are, by name."""

from __future__ import annotations

from typing import Any

import torch

from models.base import Head
from models.boosted import BoostedHead, XgbSettings
from models.linear import LinearHead, LinearSettings
from models.mlp import MlpHead, MlpSettings

HEADS: dict[str, tuple[type[Head], Any]] = {
    "xgb": (BoostedHead, XgbSettings()),
    "linear": (LinearHead, LinearSettings()),
    "mlp": (MlpHead, MlpSettings()),
}
"""Each head's class and its default settings."""


def make_head(name: str, *, settings: Any = None, seed: int, device: torch.device) -> Head:
    """A head yet to be fitted; `name` is one of HEADS, `settings` default to its own."""
    kind, defaults = HEADS[name]
    return kind(settings or defaults, seed=seed, device=device)
