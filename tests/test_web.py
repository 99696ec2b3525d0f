"""The folder of the page that runs a classifier without a server, and where what runs it comes from."""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import tarfile
from collections.abc import Mapping
from pathlib import Path

import onnx
import pytest
from onnx import parser

from pipeline.errors import WebError
from pipeline.web import runtime
from pipeline.web.folder import PAGES, write_web
from tests.conftest import EXACT, SMALL, Run, refused

Capture = pytest.CaptureFixture[str]

EVIL = "<b>blue</b>, or so"

CLASSES = ["red", "green", EVIL]

CONTENTS = {"run.mjs": b"export {};", "run.wasm": b"\0asm"}
"""What a small package has instead of the runtime."""

MODEL = """
<ir_version: 9, opset_import: ["" : 18]>
colours (uint8[n, h, w, 3] images) => (float[n, 3] probabilities, string[n] label)
<int64[4] size = {1, 3, 8, 8}, float share = {0.05}, string[3] names = {NAMES}, int64[2] start = {4, 4},
 int64[2] end = {8, 8}, int64[2] places = {2, 3}>
{
  channels = Transpose <perm=[0, 3, 1, 2]> (images)
  small = Resize <mode="linear", antialias=1> (channels, , , size)
  corner = Slice (small, start, end, places)
  numbers = Cast <to=1> (corner)
  mean = ReduceMean <keepdims=0> (numbers, places)
  scaled = Mul (mean, share)
  probabilities = Softmax <axis=1> (scaled)
  best = ArgMax <axis=1, keepdims=0> (probabilities)
  label = Gather (names, best)
}
"""
"""A classifier that looks for the colour of an image's lower right quarter."""


@pytest.fixture
def colours(tmp_path: Path) -> Path:
    return write_model(tmp_path / "colours.onnx")


def write_model(path: Path, **told: str) -> Path:
    model = parser.parse_model(MODEL.replace("NAMES", ", ".join(map(json.dumps, CLASSES))))
    card = json.dumps({"head": "linear", "dataset": "photos"})
    always = {"classes": json.dumps(CLASSES), "card": card, "input": "pixels", "licenses": "Weights: Apache-2.0"}
    onnx.helper.set_model_props(model, always | told)
    onnx.save(model, path)
    return path


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder in which the small package's files are kept, and an npm that brings it."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(runtime, "FILES", {name: hashlib.sha256(CONTENTS[name]).hexdigest() for name in CONTENTS})
    bring(tmp_path, monkeypatch, CONTENTS)
    return tmp_path / "cache" / "treehead" / runtime.RUNTIME.replace("@", "-")


def bring(folder: Path, monkeypatch: pytest.MonkeyPatch, contents: Mapping[str, bytes]) -> None:
    """Have npm bring a package with these files."""
    with tarfile.open(folder / "package.tar.gz", "w:gz") as package:
        for name, content in contents.items():
            member = tarfile.TarInfo(f"package/dist/{name}")
            member.size = len(content)
            package.addfile(member, io.BytesIO(content))
    act(folder, monkeypatch, f"cp '{folder}/package.tar.gz' came.tgz")


def act(folder: Path, monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    """Have npm run `command` of the shell instead."""
    npm = folder / "bin" / "npm"
    npm.parent.mkdir(exist_ok=True)
    npm.write_text(f"#!/bin/sh\n{command}\n")
    npm.chmod(0o755)
    monkeypatch.setenv("PATH", str(npm.parent), prepend=os.pathsep)


def test_the_runtime_is_fetched_once(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert {path.name: path.read_bytes() for path in runtime.runtime_files()} == CONTENTS
    act(tmp_path, monkeypatch, "exit 1")
    assert runtime.runtime_files() == [cache / name for name in CONTENTS]


def test_a_damaged_file_of_the_runtime_is_fetched_again(cache: Path) -> None:
    (_, wasm) = runtime.runtime_files()
    wasm.write_bytes(b"cut")
    assert [path.read_bytes() for path in runtime.runtime_files()] == list(CONTENTS.values())


@pytest.mark.parametrize("contents", [CONTENTS | {"run.wasm": b"other"}, {"run.mjs": CONTENTS["run.mjs"]}])
def test_a_runtime_of_other_files_is_refused(
    contents: dict[str, bytes], cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bring(tmp_path, monkeypatch, contents)
    with pytest.raises(WebError, match=r"^run.wasm of onnxruntime-web@.* has the SHA-256 \w+…, expected \w+…: do not"):
        runtime.runtime_files()
    assert not cache.exists()


def test_without_npm_it_is_said_what_to_do(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(WebError, match=r"^there is no npm, which brings onnxruntime-web@.*: install Node.js, or"):
        runtime.runtime_files()


def test_what_npm_says_is_one_line(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    act(tmp_path, monkeypatch, "echo 'npm error code ENOTFOUND\nnpm error more\nand more' >&2; exit 1")
    with pytest.raises(WebError, match=r"\(npm error code ENOTFOUND; npm error more\): try again where .npm pack"):
        runtime.runtime_files()


def test_a_page_has_its_licenses_and_comes_again(cache: Path, colours: Path, tmp_path: Path) -> None:
    folder = tmp_path / "web"
    assert (
        write_web(colours, folder)
        == write_web(colours, folder)
        == sum(path.stat().st_size for path in folder.iterdir())
    )
    assert (folder / "model.onnx").read_bytes() == colours.read_bytes()
    assert not (folder / "colours.onnx").exists()
    licenses = (folder / "licenses.txt").read_text()
    assert "MIT License" in licenses
    assert "Weights: Apache-2.0" in licenses


def test_images_that_browsers_cannot_prepare_are_refused(cache: Path, tmp_path: Path) -> None:
    prepared = write_model(tmp_path / "prepared.onnx", input="prepared")
    with pytest.raises(WebError, match=r"prepared.onnx takes prepared images, expected pixels, .*: export it with"):
        write_web(prepared, tmp_path / "web")
    assert not (tmp_path / "web").exists()


def test_a_page_of_others_is_left_alone(cache: Path, colours: Path, tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text("mine")
    with pytest.raises(WebError, match=r"holds another page, index.html: choose an empty folder"):
        write_web(colours, tmp_path)
    assert (tmp_path / "index.html").read_text() == "mine"


def test_export_writes_the_page_last(
    cache: Path, treehead: Run, split_photos: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    assert treehead("xgb", split_photos, *SMALL, *EXACT) == 0
    model, tmp_path = capsys.readouterr().out.strip(), split_photos.parent
    act(tmp_path, monkeypatch, "exit 1")
    assert "npm could not fetch" in refused(treehead, capsys, "export", model, "--web", "web")
    assert not Path("model.onnx").exists()
    bring(tmp_path, monkeypatch, CONTENTS)
    assert treehead("export", model, "--web", "a page") == 0
    assert "MB for any web server; here: python -m http.server --directory 'a page'\n" in capsys.readouterr().err
    assert Path("a page", "model.onnx").read_bytes() == Path("model.onnx").read_bytes()
    assert json.loads(Path("a page", "about.json").read_text())["title"] == "xgb on split photos"


def test_what_no_page_can_have_is_refused(treehead: Run, capsys: Capture) -> None:
    prepared = refused(treehead, capsys, "export", "xgb.joblib", "--web", "web", "--input", "prepared")
    assert "browsers do not resize as Pillow does: leave one out" in prepared
    assert "expected a folder of this machine" in refused(treehead, capsys, "export", "x.joblib", "--web", "s3://b/c")


def test_nothing_of_the_page_is_loaded_from_elsewhere() -> None:
    texts = {path.name: path.read_text() for page in PAGES for path in page.iterdir()}
    assert {"index.html", "app.js", "engine.js", "worker.js", "style.css"} <= set(texts)
    found = {(name, address) for name, text in texts.items() for address in re.findall(r"https?://[^\s\"'`]+", text)}
    assert found == {("opened.js", "http://localhost:8000")}
