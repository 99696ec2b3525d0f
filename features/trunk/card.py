"""The card of a trunk that was trained here: what it is, how it wants images prepared, and the SHA-256 of its file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from features.errors import TrunkError, first_line
from features.storage import file_sha256, from_json, read_json
from features.trunk.recipe import Recipe


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
