"""What becomes of one image on its way: its bytes, its pixels, or the reason why there are none."""

from __future__ import annotations

import hashlib
import re
import textwrap
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from features.errors import DecodeError
from features.looks import thumbnail
from features.sources.decode import DECODING, NO_MEMORY, decode
from features.sources.formats.rules import Decoding
from features.sources.source import Payload
from features.table.ledger import LedgerEntry

LONGEST_REASON = 300
"""Characters of what is said of a file, which may quote it."""

Reader = Callable[[], Payload]
"""Reads one image; raises OSError or DecodeError where it cannot."""


@dataclass(kw_only=True)
class Outcome:
    """What became of one image; `reason` and `exception` where it has no features.

    `sha256` is of its `bytes`, so many. It is `width` and `height` pixels as it was decoded: a very large image is
    halved on the way. `thumbnail` is as `features.looks` makes it.
    """

    sha256: str = ""
    bytes: int = 0
    width: int = 0
    height: int = 0
    thumbnail: NDArray[np.uint8] | None = None
    reason: str = ""
    exception: str = ""

    def seen(self, pixels: torch.Tensor) -> None:
        """Note what (1 or 3, h, w) uint8 pixels tell of the whole image."""
        self.height, self.width = pixels.shape[-2:]
        self.thumbnail = thumbnail(pixels)

    def fail(self, reason: str, error: BaseException) -> None:
        """Note why there are no features; where an object lies in memory is no part of it."""
        self.reason = textwrap.shorten(reason, LONGEST_REASON, placeholder=" …")
        self.exception = re.sub(r" at 0x[0-9a-f]+", "", repr(error))


def failures(keys: Iterable[str], outcomes: Sequence[Outcome]) -> list[LedgerEntry]:
    """What the ledger says of the images that have no features; `keys` are those of all, in the order of `outcomes`."""
    return [
        {"key": key, "reason": outcome.reason, "exception": outcome.exception}
        for key, outcome in zip(keys, outcomes, strict=True)
        if outcome.reason
    ]


def read_payload(reader: Reader, outcome: Outcome) -> Payload | None:
    """Read one image and note its SHA-256; None, and why in `outcome`, where it cannot be read."""
    try:
        payload = reader()
    except OSError as error:
        outcome.fail(f"unreadable: {error.strerror or error}", error)
        return None
    except DecodeError as error:
        outcome.fail(str(error), error)
        return None
    except MemoryError as error:
        outcome.fail(NO_MEMORY, error)
        return None
    content = bytes(payload)
    outcome.sha256, outcome.bytes = hashlib.sha256(content).hexdigest(), len(content)
    return payload


def decode_payload(payload: Payload, outcome: Outcome, rules: Decoding = DECODING) -> torch.Tensor | None:
    """Decode one image to (3, h, w) uint8; None, and why in `outcome`, where it is damaged."""
    try:
        return torch.from_numpy(decode(payload, rules)).permute(2, 0, 1).expand(3, -1, -1)
    except DecodeError as error:
        outcome.fail(str(error), error.__cause__ or error)
        return None
