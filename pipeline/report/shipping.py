"""Which contender to ship, by a rule that the report tells."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Recommendation:
    """The contender to ship, and why, in a sentence each."""

    name: str
    reasons: tuple[str, ...]
