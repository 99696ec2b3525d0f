"""What decoding is told: the rules travel with a table, a classifier and its predictions, as all else does."""

from __future__ import annotations

from dataclasses import dataclass

FORMATS = ("JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP", "JPEG2000", "PPM", "ICO", "TGA", "AVIF", "HEIF")
"""What is read, by Pillow's names. These hold photographs and scans, and their decoders are fuzzed by many. Left out is
what starts other programs (EPS), what is a stub for a reader that is not there (WMF, HDF5, GRIB …), what shows a
preview of something else (PSD, PCD, FPX), and what nobody keeps photographs in."""

MAX_PIXELS = 2**28
"""About 268 million: the photographs of 200-megapixel telephones, and A2 scanned at 600 dpi."""


@dataclass(frozen=True, kw_only=True)
class Decoding:
    """Which images are read, and how far.

    `formats` are some of FORMATS; an image of more than `max_pixels` is refused; of a JPEG or PNG file that was cut
    short, at most the share `accept_truncated` may be missing, which is grey then.
    """

    formats: tuple[str, ...] = FORMATS
    max_pixels: int = MAX_PIXELS
    accept_truncated: float = 0.0
