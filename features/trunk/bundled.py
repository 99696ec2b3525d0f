"""Trunks that `treehead pretrain` made: the card that each has, and those that come with this project, in float16.

    alexnet.safetensors   the trunk, in torchvision's names
    alexnet.json          its card: what it was made of, how it wants images prepared, and the SHA-256 of the trunk

Every load is held against that SHA-256.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch

from features.errors import TrunkError, first_line
from features.storage import file_sha256, from_json, read_json
from features.trunk.backbone import State
from features.trunk.recipe import Recipe

FOLDER = Path(__file__).parent / "bundled_weights"


@dataclass(frozen=True, kw_only=True)
class TrunkCard:
    """What of a card is read again: the SHA-256 of the trunk's file, and the accuracy (share) on validation images."""

    sha256: str
    recipe: Recipe
    accuracy: float

    @classmethod
    def read(cls, path: Path) -> TrunkCard:
        """The card at `path`; raises TrunkError where it is missing or damaged."""
        try:
            content: Any = read_json(path)
            return cls(
                sha256=content["trunk"]["sha256"],
                recipe=from_json(Recipe, content["recipe"]),
                accuracy=from_json(float, content["validation"]["accuracy"]),
            )
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise TrunkError(f"{path} is no card of a trunk ({first_line(error)})") from error

    def check(self, trunk: Path) -> None:
        """Raise TrunkError unless the file `trunk` is the card's."""
        try:
            found = file_sha256(trunk)
        except OSError as error:
            raise TrunkError(f"{trunk} cannot be read ({error.strerror})") from error
        if found != self.sha256:
            raise TrunkError(f"{trunk} is not the file its card names (its SHA-256 differs)")


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
