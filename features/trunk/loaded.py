"""Backbones: whole networks by name, from torchvision or timm, and the nodes they can be cut at."""

from __future__ import annotations

from features.trunk.backbone import Backbone
from features.trunk.recipe import Recipe
from features.trunk.torchvision_backbone import VisionBackbone

__all__ = ["TIMM", "Backbone", "Recipe", "open_backbone"]

TIMM = "timm:"
"""How the names of timm's networks begin."""


def open_backbone(name: str, seed: int) -> Backbone:
    """A network with random weights drawn from `seed`; raises TrunkError for a name that is not known."""
    if name.startswith(TIMM):
        from features.trunk.timm_backbone import TimmBackbone  # an optional extra

        return TimmBackbone(name.removeprefix(TIMM), seed)
    return VisionBackbone(name, seed)
