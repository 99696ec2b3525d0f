"""The heads there are: one row a head, with its class, its settings, and what a search tries of each setting.

Light to import: a head's class, and the library that it learns with, are loaded when one is made.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING

from models.errors import SettingsError
from models.heads.settings import (
    HybridSettings,
    KnnSettings,
    LinearSettings,
    MlpSettings,
    Settings,
    XgbSettings,
    said_of_parts,
)

if TYPE_CHECKING:
    import torch

    from models.heads.head import Head


@dataclass(frozen=True)
class Range:
    """All numbers from `low` to `high`, whole ones where these are whole; `log` draws small ones as often as large."""

    low: float
    high: float
    log: bool = False


@dataclass(frozen=True)
class Choice:
    """One of these `values`; a tuple among them is the value of a setting that takes several."""

    values: tuple[float | tuple[int, ...], ...]


Space = Mapping[str, Range | Choice]
"""What a search tries of each setting, by its name; empty where there is nothing to search."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """What is known of a head besides its settings: where its class is, as `module:class`, and its search space."""

    path: str
    space: Space

    def load(self) -> type[Head]:
        """Import the head's class."""
        found: type[Head] = pkgutil.resolve_name(self.path)
        return found


def _head(path: str, **space: Range | Choice) -> dict[str, Entry]:
    return {"entry": Entry(path=path, space=space)}


@dataclass(frozen=True, kw_only=True)
class HeadSettings:
    """The settings of every head, by the head's name: a field here is what makes a head known everywhere."""

    xgb: XgbSettings = field(
        default_factory=XgbSettings,
        metadata=_head(
            "models.heads.boosted:BoostedHead",
            learning_rate=Range(0.03, 0.4, log=True),
            max_depth=Range(2, 8),
            max_bin=Choice((16, 64, 256)),
            columns=Choice((128, 256, 512, 1024)),
            column_share=Range(0.02, 0.5, log=True),
            discriminant_columns=Choice((0, 4096)),
        ),
    )
    linear: LinearSettings = field(
        default_factory=LinearSettings,
        metadata=_head(
            "models.heads.linear:LinearHead",
            columns=Choice((2048, 4096, 8192)),
            iterations=Range(25, 400, log=True),
        ),
    )
    mlp: MlpSettings = field(
        default_factory=MlpSettings,
        metadata=_head(
            "models.heads.mlp:MlpHead",
            learning_rate=Range(5e-5, 2e-3, log=True),
            dropout=Range(0.0, 0.7),
            input_dropout=Range(0.0, 0.5),
            weight_decay=Range(1e-4, 1e-1, log=True),
            hidden=Choice(((512, 512), (1024, 1024), (2048, 2048))),
            epochs=Range(6, 30),
        ),
    )
    knn: KnnSettings = field(
        default_factory=KnnSettings,
        metadata=_head(
            "models.heads.knn:KnnHead",
            columns=Choice((1024, 4096)),
            components=Choice((64, 128, 256)),
        ),
    )
    hybrid: HybridSettings = field(default_factory=HybridSettings, metadata=_head("models.heads.hybrid:HybridHead"))

    def __post_init__(self) -> None:
        every = [self.of(each.name) for each in fields(self)]
        whole = [settings.head for settings in every if not settings.parts]
        for settings in every:
            if set(settings.parts) - set(whole):
                raise SettingsError(f"{said_of_parts(settings)} came: expected some of {', '.join(whole)}")

    def of(self, head: str) -> Settings:
        """The settings of one head, by its name."""
        settings: Settings = getattr(self, head)
        return settings


HEADS: dict[str, Entry] = {each.name: each.metadata["entry"] for each in fields(HeadSettings)}
"""The heads there are, by name."""

DEFAULTS = HeadSettings()


def make_head(name: str, settings: HeadSettings = DEFAULTS, *, seed: int, device: torch.device) -> Head:
    """Make a head yet to be fitted, and the parts that it is made of; `name` is one of HEADS.

    Raises DeviceError for a device that its settings ask for and that is not there.
    """
    own = settings.of(name)
    parts = [make_head(part, settings, seed=seed, device=device) for part in own.parts]
    return HEADS[name].load()(own, seed=seed, device=device, parts=parts)
