"""A template to one HTML file that needs no other."""

from __future__ import annotations

from base64 import b64encode
from hashlib import sha256
from pathlib import Path

from markupsafe import Markup

from features.storage import replacing
from pipeline.provenance import Provenance
from pipeline.report.plots import templates


def write_page(path: Path, template: str, *, title: str, made: Provenance, **values: object) -> None:
    """Fill `template`, which extends `base.html`, and write it whole."""
    style, script = (Markup(_source(name)) for name in ("page.css", "page.js"))
    script_hash = b64encode(sha256(script.encode()).digest()).decode("ascii")
    page = templates.get_template(template).render(
        title=title, made=made, style=style, script=script, script_hash=script_hash, **values
    )
    with replacing(path) as scratch:
        scratch.write_text(page, encoding="utf-8")


def _source(name: str) -> str:
    return templates.loader.get_source(templates, name)[0] if templates.loader else ""
