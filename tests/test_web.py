"""The page that runs a classifier without a server: what is in its folder, and what a person sees of it."""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import shutil
import tarfile
from collections.abc import Iterator, Mapping
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import parser
from PIL import Image

from features.sources.decode import decode
from features.sources.manifests import open_manifest
from features.sources.options import SourceOptions
from pipeline.errors import WebError
from pipeline.web import runtime
from pipeline.web.folder import PAGES, write_web
from tests.conftest import COLOURS, SMALL, Run, refused, write_images

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

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
    assert treehead("xgb", split_photos, *SMALL) == 0
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


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page with the real runtime."""
    if shutil.which("npm") is None:
        pytest.skip("there is no npm, which brings the runtime, on this machine")
    folder = tmp_path_factory.mktemp("web")
    write_web(write_model(folder / "colours.onnx"), folder / "page")
    return folder / "page"


@pytest.fixture(scope="module")
def address(folder: Path) -> Iterator[str]:
    """Where a server of the standard library gives the page out."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(folder))) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def shown(browser: Browser, address: str) -> Iterator[Page]:
    """The page on a telephone, its classifier loaded."""
    page = browser.new_context(viewport={"width": 360, "height": 740}).new_page()
    page.goto(address)
    page.locator("body.ready").wait_for()
    yield page
    page.close()


def upload(page: Page, *images: Path) -> list[str]:
    """What the page says of each, the last first, as one line."""
    before = page.locator(".result").count()
    page.locator("#files").set_input_files(images)
    page.locator(".result").nth(before + len(images) - 1).wait_for()
    return [" ".join(each.inner_text().split()) for each in page.locator(".result").all()[: len(images)]]


@pytest.mark.browser
def test_a_photograph_is_classified_and_corrected(shown: Page, tmp_path: Path) -> None:
    for colour in COLOURS:
        write_images(tmp_path / colour, colour, 1)
    (tmp_path / "red" / "000.png").rename(tmp_path / 'a "red", one.png')
    assert shown.locator("#about").inner_text().startswith("linear on photos. It tells 3 classes apart: red, ")
    upload(shown, tmp_path / "green" / "000.png")
    (told,) = upload(shown, tmp_path / 'a "red", one.png')
    assert told.startswith('a "red", one.png red red 9')
    result = shown.locator(".result").first
    result.get_by_label("It is").select_option(EVIL)
    result.get_by_role("button").click()
    with shown.expect_download() as download:
        shown.get_by_role("link", name="Download the corrections").click()
    download.value.save_as(tmp_path / download.value.suggested_filename)
    source = open_manifest(tmp_path / "corrections.csv", SourceOptions(), lambda _: None)
    assert (source.classes, list(source.items["key"])) == ((EVIL,), ['a "red", one.png'])


@pytest.mark.browser
def test_probabilities_are_those_of_onnx_runtime(shown: Page, folder: Path, tmp_path: Path) -> None:
    colours = np.random.default_rng(0).integers(0, 256, (2, 2, 4)).astype(np.uint8)
    turned = Image.Exif()
    turned[0x0112] = 6
    Image.fromarray(colours, "RGBA").resize((1100, 37)).save(tmp_path / "corners.png", exif=turned)
    content = (tmp_path / "corners.png").read_bytes()
    pixels = decode(content)
    assert pixels.shape == (1100, 37, 3)
    session = onnxruntime.InferenceSession(folder / "model.onnx")
    (expected,) = np.asarray(session.run(["probabilities"], {"images": pixels[None]})[0])
    found = shown.evaluate(
        """async (content) => {
            const { engine } = await import("./engine.js");
            return (await engine.classify(new Blob([new Uint8Array(content)]))).probabilities;
        }""",
        list(content),
    )
    assert found == pytest.approx(expected.tolist(), abs=0.01)  # transparency may be rounded otherwise
    assert found != pytest.approx([1 / 3] * 3, abs=0.05)


@pytest.mark.browser
def test_what_is_no_image_or_too_large_is_a_sentence_beside_the_others(shown: Page, tmp_path: Path) -> None:
    write_images(tmp_path, "green", 1)
    (tmp_path / "drawing.svg").write_text('<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>')
    (tmp_path / "page.jpg").write_text("<p>no image</p>")
    Image.new("1", (10_000, 10_000)).save(tmp_path / "large.png")
    good, large, *others = upload(
        shown, *(tmp_path / name for name in ("drawing.svg", "page.jpg", "large.png", "000.png"))
    )
    assert good.startswith("000.png green green 9")
    assert large == "large.png Too many pixels (10000 × 10000, over 50 million): make it smaller."
    assert [each.partition(" ")[2] for each in others] == [
        "This is no image that this browser reads: try JPEG or PNG."
    ] * 2


@pytest.mark.browser
def test_axe_finds_nothing(shown: Page, tmp_path: Path) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed")
    write_images(tmp_path, "green", 1)
    upload(shown, tmp_path / "000.png")
    found = axe.Axe().run(shown).response["violations"]
    assert [(each["impact"], each["id"], each["nodes"][0]["html"]) for each in found] == []


@pytest.mark.browser
def test_a_telephone_shows_the_page_without_scrolling_sideways(shown: Page, tmp_path: Path) -> None:
    write_images(tmp_path, "green", 1)
    (tmp_path / "000.png").rename(tmp_path / f"{'long' * 30}.png")
    upload(shown, tmp_path / f"{'long' * 30}.png")
    assert shown.evaluate("document.documentElement.scrollWidth") == 360


@pytest.mark.browser
def test_no_request_leaves_the_server(browser: Browser, address: str, tmp_path: Path) -> None:
    write_images(tmp_path, "green", 1)
    context = browser.new_context()
    asked: list[str] = []
    said: list[str] = []
    context.on("request", lambda request: asked.append(request.url))
    context.on("console", lambda message: said.append(message.text))
    page = context.new_page()
    page.goto(address)
    page.locator("body.ready").wait_for()
    upload(page, tmp_path / "000.png")
    assert {f"{address}model.onnx", f"{address}ort-wasm-simd-threaded.wasm"} <= set(asked)
    assert [url for url in asked if not url.startswith((address, "data:", "blob:"))] == []
    assert said == []
    page.get_by_role("link", name="Licenses").click()
    assert "MIT License" in page.locator("body").inner_text()
    context.close()


@pytest.mark.browser
def test_opened_as_a_file_it_says_what_to_type(browser: Browser, folder: Path) -> None:
    page = browser.new_page()
    page.goto((folder / "index.html").as_uri())
    assert "Type “python -m http.server” in its folder" in page.locator("#about").inner_text()


@pytest.mark.browser
@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("model.onnx", "The model cannot be run (model.onnx: 404 Not Found): load the page again."),
        ("about.json", "about.json is not there: see that all files of this folder are on the server."),
        (
            "ort.wasm.bundle.min.mjs",
            "The model cannot be run here: see that all files of this folder are on the server",
        ),
    ],
)
def test_a_file_that_does_not_come_is_a_sentence(browser: Browser, address: str, name: str, sentence: str) -> None:
    context = browser.new_context()
    context.route(f"**/{name}", lambda route: route.fulfill(status=404, body="gone"))
    page = context.new_page()
    page.goto(address)
    page.get_by_text(sentence).wait_for()
    context.close()
