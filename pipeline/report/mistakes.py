"""The pictures that the recommended contender gets wrong."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Mistake:
    """An image, by `key`, of class `true` taken for `predicted` with `probability`; by number, as are the classes.

    `alike` are the keys of the training images whose features are nearest, by angle, the nearest first.
    """

    key: str
    true: int
    predicted: int
    probability: float
    alike: tuple[str, ...]
