"""One HTML file that needs no other: a template filled, and small pictures of images as text that it can hold."""

from __future__ import annotations

import io
from base64 import b64encode
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path

import pandas as pd
from markupsafe import Markup
from PIL import Image

from features.devices import usable_cores
from features.errors import DecodeError
from features.sources.decode import decode
from features.sources.formats.rules import Decoding
from features.sources.source import Source
from features.storage import replacing
from pipeline.provenance import Provenance
from pipeline.report.plots import templates

SIDE = 112
"""Pixels of a picture's longer side."""


def write_page(path: Path, template: str, *, title: str, made: Provenance, **values: object) -> None:
    """Fill `template`, which extends `base.html`, and write it whole."""
    assert templates.loader
    style, script = (Markup(templates.loader.get_source(templates, name)[0]) for name in ("page.css", "page.js"))
    script_hash = b64encode(sha256(script.encode()).digest()).decode("ascii")
    page = templates.get_template(template).render(
        title=title, made=made, style=style, script=script, script_hash=script_hash, **values
    )
    with replacing(path) as scratch:
        scratch.write_text(page, encoding="utf-8")


def thumbnails(source: Source, keys: Iterable[str], rules: Decoding) -> dict[str, str]:
    """A picture of each image of `source` by its key, as a data: URI; left out is what cannot be read any more."""
    wanted, places = list(dict.fromkeys(keys)), pd.Series(source.items.index, source.items["key"])
    with ThreadPoolExecutor(usable_cores()) as threads:
        made = list(threads.map(lambda key: _thumbnail(source, int(places[key]), rules), wanted))
    return {key: picture for key, picture in zip(wanted, made, strict=True) if picture}


def _thumbnail(source: Source, place: int, rules: Decoding) -> str:
    try:
        pixels = decode(source.read(place), rules)
    except (OSError, DecodeError):
        return ""
    return _as_uri(Image.fromarray(pixels.squeeze(axis=2) if pixels.shape[2] == 1 else pixels))


def _as_uri(image: Image.Image) -> str:
    """The image made small; one that is very small stays what it is, in larger pixels."""
    larger = SIDE // max(image.size)
    if larger > 1:
        image = image.resize((image.width * larger, image.height * larger), Image.Resampling.NEAREST)
    image.thumbnail((SIDE, SIDE))
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", quality=75)
    return f"data:image/webp;base64,{b64encode(buffer.getvalue()).decode('ascii')}"
