"""Damaged images through the whole of stage 1: each is a row or a line of the ledger."""

from __future__ import annotations

from pathlib import Path

from features.errors import DecodeError
from features.extract import extract
from features.sources.decode import decode
from features.sources.formats.rules import Decoding
from features.sources.registry import open_source
from tests.conftest import make_tiny_trunk
from tests.fuzz_images import damaged, sound

LENIENT = Decoding(max_pixels=2**24, accept_truncated=0.5)


def test_each_format_that_is_damaged_is_sound_at_first() -> None:
    for name, content in sound().items():
        assert decode(content).ndim == 3, name


def refused(count: int, seed: int) -> list[str]:
    """Decode so many, strictly and leniently; returns the reasons of those that were refused."""
    reasons = []
    for _, content in damaged(count, seed):
        for rules in (Decoding(), LENIENT):
            try:
                decode(content, rules)
            except DecodeError as error:
                reasons.append(str(error))
    return reasons


def test_damaged_images_are_decoded_or_refused_with_a_reason() -> None:
    reasons = refused(2000, seed=1)
    assert 400 < len(reasons) < 4000
    assert all(reason.strip() and "\n" not in reason for reason in reasons)


def test_rows_and_errors_are_what_is_listed(photos: Path, tmp_path: Path) -> None:
    for name, content in damaged(150, seed=2):
        (photos / "red" / name).write_bytes(content)
    source = open_source(str(photos))
    table = extract(source, [make_tiny_trunk()], tmp_path / "out", max_bad=1, on_images=lambda _: None).tables[0]
    assert sum(table.rows.values()) + table.errors == len(source.items) == 120 + 150
