"""Checks of settings: what is out of range is refused in one line that names the setting, in backticks.

The settings of a head have its name before theirs (`xgb.rounds=0`), as they have on the command line.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from models.errors import SettingsError


def check_shares(settings: object, *names: str) -> None:
    """Raise SettingsError for one of these settings that is below 0, or 1 or more."""
    for name in names:
        for said, value in _values(settings, name):
            if not 0 <= value < 1:
                raise SettingsError(f"{said} is no share: expected 0 or more, below 1")


def check_positive(settings: object, **most: float) -> None:
    """Raise SettingsError for a setting, by name, that is 0 or less, or above its bound."""
    for name, bound in most.items():
        for said, value in _values(settings, name):
            if not 0 < value <= bound:
                raise SettingsError(f"{said} is out of range: expected above 0, at most {bound}")


def check_ranges(settings: object, ranges: Mapping[str, tuple[int, int]]) -> None:
    """Raise SettingsError for a setting, by name, that is outside of its range, ends included."""
    for name, (least, most) in ranges.items():
        for said, value in _values(settings, name):
            if not least <= value <= most:
                raise SettingsError(f"{said} is out of range: expected {least} to {most}")


def _values(settings: object, name: str) -> Iterator[tuple[str, float]]:
    """A setting as messages name it and its value, or each of its values; none of None, where nothing was asked for."""
    head = getattr(settings, "head", "")
    named = f"{head}.{name}" if head else name
    value = getattr(settings, name)
    if value == ():
        raise SettingsError(f"`{named}=()` is empty: expected one value or more")
    for each in value if isinstance(value, tuple) else (value,):
        if each is not None:
            yield f"`{named}={each}`", each
