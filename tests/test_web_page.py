"""The page that runs a classifier without a server, as people meet it in Chromium."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime
import pytest
from PIL import Image

from features.sources.decode import decode
from features.sources.manifests import open_manifest
from features.sources.options import SourceOptions
from pipeline.errors import WebError
from pipeline.web.folder import write_web
from tests.conftest import COLOURS, write_images
from tests.test_web import EVIL, write_model

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = [pytest.mark.browser, pytest.mark.servers]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page with the real runtime."""
    folder = tmp_path_factory.mktemp("web")
    try:
        write_web(write_model(folder / "colours.onnx"), folder / "page")
    except WebError as error:
        if str(error).startswith(("there is no npm", "npm could not")):
            pytest.skip(str(error))
        raise
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


def test_axe_finds_nothing(shown: Page, tmp_path: Path) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed")
    write_images(tmp_path, "green", 1)
    upload(shown, tmp_path / "000.png")
    found = axe.Axe().run(shown).response["violations"]
    assert [(each["impact"], each["id"], each["nodes"][0]["html"]) for each in found] == []


def test_a_telephone_shows_the_page_without_scrolling_sideways(shown: Page, tmp_path: Path) -> None:
    write_images(tmp_path, "green", 1)
    (tmp_path / "000.png").rename(tmp_path / f"{'long' * 30}.png")
    upload(shown, tmp_path / f"{'long' * 30}.png")
    assert shown.evaluate("document.documentElement.scrollWidth") == 360


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


def test_opened_as_a_file_it_says_what_to_type(browser: Browser, folder: Path) -> None:
    page = browser.new_page()
    page.goto((folder / "index.html").as_uri())
    assert "Type “python -m http.server” in its folder" in page.locator("#about").inner_text()


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
