"""Which release of treehead this is; nothing is imported for it that takes time."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version


def release() -> str:
    """The installed release, as in `0.1.0`; `0+unknown` in a checkout that nobody has installed."""
    try:
        return version("treehead")
    except PackageNotFoundError:
        return "0+unknown"
