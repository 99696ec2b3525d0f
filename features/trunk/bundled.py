"""The trunks that come with this project, made by `treehead pretrain`: float16, in torchvision's names.

    alexnet.safetensors   the trunk
    alexnet.json          its card: what it was made of, how it wants images prepared, and the SHA-256 of the trunk

Every load is held against that SHA-256.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import safetensors.torch

from features.errors import TrunkError, first_line
from features.storage import file_sha256
from features.trunk.recipe import Recipe
from features.trunk.weights import State

FOLDER = Path(__file__).parent / "bundled_weights"


def is_bundled(backbone: str) -> bool:
    """Whether weights of `backbone` come with this project."""
    return (FOLDER / f"{backbone}.json").exists()


def bundled_state(backbone: str) -> tuple[State, Recipe]:
    """The trunk's tensors and their recipe; raises TrunkError where there are none, or they are not the card's."""
    if not is_bundled(backbone):
        there = ", ".join(sorted(path.stem for path in FOLDER.glob("*.json"))) or "no backbone"
        raise TrunkError(
            f"no weights of {backbone} come with treehead, those of {there} do: give --weights imagenet, FILE or random"
        )
    path = FOLDER / f"{backbone}.safetensors"
    pinned, recipe = _read_card(path.with_suffix(".json"))
    try:
        intact = file_sha256(path) == pinned
    except OSError as error:
        raise TrunkError(
            f"the bundled weights {path} cannot be read ({error.strerror}): install treehead again"
        ) from error
    if not intact:
        raise TrunkError(f"{path} has been changed (its SHA-256 is not its card's): install treehead again")
    return safetensors.torch.load_file(path), recipe


def _read_card(path: Path) -> tuple[str, Recipe]:
    """The trunk's SHA-256 and its recipe."""
    try:
        card: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return card["trunk"]["sha256"], Recipe.from_json(card["recipe"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise TrunkError(
            f"{path} is no card of bundled weights ({first_line(error)}): install treehead again"
        ) from error
