"""The trunks that come with this project, made by `treehead pretrain`: float16, in torchvision's names.

    alexnet.safetensors   the trunk
    alexnet.json          its card: what it was made of, how it wants images prepared, and the SHA-256 of the trunk

Every load is held against that SHA-256.
"""

from __future__ import annotations

from pathlib import Path

import safetensors.torch

from features.errors import TrunkError
from features.trunk.backbone import State
from features.trunk.card import TrunkCard
from features.trunk.recipe import Recipe

FOLDER = Path(__file__).parent / "bundled_weights"


def is_bundled(backbone: str) -> bool:
    """Whether weights of `backbone` come with this project."""
    return (FOLDER / f"{backbone}.json").exists()


def bundled_state(backbone: str) -> tuple[State, Recipe]:
    """The trunk's tensors and their recipe; raises TrunkError where there are none, or they are not the card's."""
    if not is_bundled(backbone):
        there = ", ".join(sorted(path.stem for path in FOLDER.glob("*.json"))) or "no backbone"
        raise TrunkError(
            f"no weights of {backbone} come with treehead, those of {there} do: "
            "give `weights=imagenet`, random or a file"
        )
    path = FOLDER / f"{backbone}.safetensors"
    try:
        card = TrunkCard.read(path.with_suffix(".json"))
        card.check(path)
    except TrunkError as error:
        raise TrunkError(f"{error}: install treehead again") from error
    return safetensors.torch.load_file(path), card.recipe
