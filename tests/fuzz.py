"""Decodes damaged images without end in sight: python -m tests.fuzz [COUNT [SEED]] prints what it took."""

from __future__ import annotations

import resource
import sys
import time

from features.errors import DecodeError
from features.sources.decode import decode
from tests.fuzz_images import damaged


def main(count: int = 2000, seed: int = 0) -> None:
    """Decode `count` images; anything but a DecodeError ends it, with its traceback."""
    refused, slowest = 0, (0.0, "")
    for name, content in damaged(count, seed):
        start = time.perf_counter()
        try:
            decode(content)
        except DecodeError:
            refused += 1
        slowest = max(slowest, (time.perf_counter() - start, name))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    sys.stdout.write(f"{refused} of {count} refused, slowest {slowest[1]} ({slowest[0]:.2f} s), peak {peak:.0f} MB\n")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
