"""The folder that any web server gives out as it is: page, model, and what runs the model in the browser.

Nothing is loaded from elsewhere and nothing runs on the server. The page is that of `treehead serve`, with another
engine: one that runs the model where the page is shown.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

import onnx

from features.storage import Json, replacing
from pipeline.errors import WebError
from pipeline.web.runtime import LICENSE, runtime_files

PAGES = [Path(__file__).parents[1] / "serve" / "page", Path(__file__).parent / "page"]
"""Where the files of the page are: those of `serve`, then ours, which take the place of those of the same name."""

MODEL, ABOUT, LICENSES, INDEX = "model.onnx", "about.json", "licenses.txt", "index.html"

_POLICY = "default-src 'self'; img-src 'self' blob: data:; object-src 'none'; base-uri 'none'; form-action 'none'"

_ADDED = {
    "</head>": f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
    '<script src="opened.js" defer></script>\n',
    "</footer>": f'<p>Images stay in this browser. <a href="{LICENSES}">Licenses</a></p>\n',
}
"""What the static page has besides, before these ends: browsers see to it that nothing comes from elsewhere."""


def write_web(model: Path, folder: Path) -> int:
    """Write a page that runs the ONNX file `model`, which takes pixels, into `folder`; returns the bytes of all of it.

    `index.html` comes last: a page that opens has all its files. Raises WebError where there is no runtime for it, the
    model takes prepared images, or the folder holds another page, and OutputError where it cannot be written.
    """
    told = _metadata(model)
    check_web(folder)
    pages = [file for page in PAGES for file in page.iterdir()]
    files = {path.name: path for path in (*pages, *runtime_files())} | {MODEL: model}
    texts = {
        ABOUT: json.dumps(_about(told, model)),
        LICENSES: f"{LICENSE}\n{told.get('licenses', '')}\n",
        INDEX: _index(files.pop(INDEX)),
    }
    for name, path in files.items():
        with replacing(folder / name) as scratch:
            shutil.copyfile(path, scratch)
    for name, text in texts.items():
        with replacing(folder / name) as scratch:
            scratch.write_text(text, encoding="utf-8")
    return sum((folder / name).stat().st_size for name in (*files, *texts))


def check_web(folder: Path) -> None:
    """Raise WebError where a page could not be written into `folder`: another is there, a file, or no runtime here."""
    if folder.exists() and not folder.is_dir():
        raise WebError(f"{folder} is a file, expected a folder for the page: choose another `web`")
    if (folder / INDEX).exists() and not (folder / ABOUT).exists():
        raise WebError(f"{folder} holds another page, {INDEX}: choose an empty folder for `web`")
    runtime_files()


def _metadata(model: Path) -> Mapping[str, str]:
    """What the ONNX file tells of itself; raises WebError where it is not for pixels."""
    told = {entry.key: entry.value for entry in onnx.load(model).metadata_props}
    if told.get("input") != "pixels":
        raise WebError(
            f"{model} takes {told.get('input', 'unknown')} images, expected pixels, since browsers do not resize as "
            "Pillow does: export it with `input=pixels` for `web`"
        )
    return told


def _index(served: Path) -> str:
    """The page as `serve` has it, with what the static one has besides."""
    page = served.read_text(encoding="utf-8")
    for end, added in _ADDED.items():
        page = page.replace(end, added + end)
    return page


def _about(told: Mapping[str, str], model: Path) -> dict[str, Json]:
    """What the page knows before the model is there."""
    card = json.loads(told["card"])
    title, classes = f"{card['head']} on {card['dataset']}", json.loads(told["classes"])
    return {"title": title, "classes": classes, "bytes": model.stat().st_size}
