"""Checks of settings: what is out of range is refused in one line that names the option."""

from __future__ import annotations

from typing import Any

from models.errors import SettingsError


def check_shares(settings: Any, *names: str) -> None:
    """Raise SettingsError for one of these settings that is below 0, or 1 or more."""
    for name in names:
        if not 0 <= getattr(settings, name) < 1:
            raise SettingsError(f"{_option(name)} {getattr(settings, name)} is no share: expected 0 or more, below 1")


def check_positive(settings: Any, **most: float) -> None:
    """Raise SettingsError for a setting, by name, that is 0 or less, or above its bound; None is no such."""
    for name, bound in most.items():
        value = getattr(settings, name)
        if value is not None and not 0 < value <= bound:
            raise SettingsError(f"{_option(name)} {value} is out of range: expected above 0, at most {bound}")


def check_ranges(settings: Any, ranges: dict[str, tuple[int, int]]) -> None:
    """Raise SettingsError for a setting, by name, that is outside of its range, ends included."""
    for name, (least, most) in ranges.items():
        if not least <= getattr(settings, name) <= most:
            raise SettingsError(
                f"{_option(name)} {getattr(settings, name)} is out of range: expected {least} to {most}"
            )


def _option(name: str) -> str:
    return "--" + name.replace("_", "-")
