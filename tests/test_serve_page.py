"""The served page as people meet it: by mouse, keyboard, paste and drop, on a telephone, in the dark."""

from __future__ import annotations

import base64
import csv
import shutil
import socket
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING

import pytest

pytestmark = pytest.mark.browser

uvicorn = pytest.importorskip("uvicorn", reason="uvicorn is not installed: pip install 'treehead[serve]'")

from pipeline.serve.app import Served, make_app  # noqa: E402
from pipeline.serve.corrections import Corrections  # noqa: E402
from pipeline.serve.limits import Guarded  # noqa: E402
from pipeline.serve.run import LOOPBACK  # noqa: E402
from tests.test_serve import photos, served, trees  # noqa: E402

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page, Route

__all__ = ["photos", "served", "trees"]

SHOWN = "body.ready"


@pytest.fixture(scope="module")
def corrected(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("corrected")


@pytest.fixture(scope="module")
def address(served: Served, corrected: Path) -> Iterator[str]:
    """Where a server is that is unsure of all images below a probability of 0.9."""
    app = Guarded(make_app(replace(served, corrections=Corrections(corrected), least=0.9)), hosts=LOOPBACK)
    server = uvicorn.Server(uvicorn.Config(app, log_level="error", access_log=False))
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        thread = Thread(target=server.run, args=([listener],))
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        server.should_exit = True
        thread.join()


@pytest.fixture
def page(browser: Browser, address: str) -> Iterator[Page]:
    with closing(opened(browser, address)) as page:
        yield page


def opened(browser: Browser, address: str, *, width: int = 1280, scheme: str = "light") -> Page:
    """The page in a window of its own, once images can be given to it."""
    window = {"viewport": {"width": width, "height": 900}, "color_scheme": scheme}
    page = browser.new_context(**window).new_page()  # type: ignore[arg-type]
    page.goto(address)
    page.wait_for_selector(SHOWN)
    return page


def given(page: Page, *files: Path) -> None:
    """Choose files, and wait until each has its result."""
    before = page.locator(".result").count()
    page.set_input_files("#files", files)
    page.locator(".result").nth(before + len(files) - 1).wait_for()


def test_a_photograph_is_classified_and_corrected(page: Page, photos: list[Path], corrected: Path) -> None:
    given(page, photos[0])
    result = page.locator(".result")
    shares = result.locator("> div > .shares li")
    assert shares.count() == 3
    assert sorted(shares.locator("span").all_inner_texts()) == ["blue", "green", "red"]
    best, share = shares.first.locator("span").inner_text(), shares.first.locator("b").inner_text()
    sure = float(share.removesuffix(" %")) >= 90
    assert result.locator(".answer").inner_text() == (best if sure else "I don't know")
    assert shares.first.locator("i").bounding_box()["width"] > shares.last.locator("i").bounding_box()["width"]  # type: ignore[index]
    assert result.locator("> img").evaluate("(each) => each.naturalWidth") == 224
    result.locator("select").select_option("red")
    result.locator("form button").click()
    result.locator("form [role=status]", has_text="Kept as red").wait_for()
    with (corrected / "corrected" / "labels.csv").open(newline="") as file:
        ((name, label),) = [row for row in csv.reader(file) if row[0] in result.inner_text()]
    assert label == "red"
    assert (corrected / "corrected" / name).read_bytes() == photos[0].read_bytes()


def test_training_images_like_it_are_shown_when_asked_for(page: Page, photos: list[Path]) -> None:
    given(page, photos[0])
    page.locator(".alike summary").click()
    page.locator(".alike img").first.wait_for()
    assert page.locator(".alike li").count() == 6
    assert page.locator(".alike li b").first.inner_text() in ("blue", "green", "red")
    assert all(
        image.evaluate("(each) => each.decode().then(() => each.naturalWidth)")
        for image in page.locator(".alike img").all()
    )


def written(folder: Path, name: str) -> Path:
    """A file that is no image."""
    (folder / name).write_text("<!doctype html>")
    return folder / name


def test_what_is_no_image_says_so_beside_those_that_are(page: Page, photos: list[Path], tmp_path: Path) -> None:
    given(page, photos[0], written(tmp_path, "page.png"), photos[1])
    assert page.locator("#status").inner_text() == "3 images done, 1 of them could not be read."
    assert "a web page (HTML)" in page.locator(".failed .answer").inner_text()
    assert page.locator(".result:not(.failed)").count() == 2


def test_a_folder(page: Page, photos: list[Path], tmp_path: Path) -> None:
    for path in photos[:3]:
        (tmp_path / "folder" / path.parent.name).mkdir(parents=True, exist_ok=True)
        shutil.copy(path, tmp_path / "folder" / path.parent.name)
    (tmp_path / "folder" / "notes.txt").write_text("no image")
    page.set_input_files("#folder", tmp_path / "folder")
    page.locator("#status", has_text="3 images done.").wait_for()
    assert "folder/blue/000.png" in page.locator(".name").all_inner_texts()


def test_a_folder_that_is_dropped(page: Page, photos: list[Path]) -> None:
    folder = photos[0].parents[1]
    data = {"items": [], "files": [str(folder)], "dragOperationsMask": 1}
    devtools = page.context.new_cdp_session(page)
    for kind in ("dragEnter", "drop"):
        devtools.send("Input.dispatchDragEvent", {"type": kind, "x": 300, "y": 200, "data": data})
    page.locator("#status", has_text="images done.").wait_for()
    names = page.locator(".name").all_inner_texts()
    assert f"{folder.name}/{photos[0].parent.name}/{photos[0].name}" in names
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("way", ["paste", "drop"])
def test_paste_and_drop(page: Page, photos: list[Path], way: str) -> None:
    content = base64.b64encode(photos[0].read_bytes()).decode()
    page.evaluate(
        """([way, content]) => {
            const data = new DataTransfer();
            const bytes = Uint8Array.from(atob(content), (each) => each.charCodeAt(0));
            data.items.add(new File([bytes], "given.png", { type: "image/png" }));
            const told = { bubbles: true, cancelable: true };
            dispatchEvent(
                way === "paste"
                    ? new ClipboardEvent("paste", { ...told, clipboardData: data })
                    : new DragEvent("drop", { ...told, dataTransfer: data }),
            );
        }""",
        [way, content],
    )
    page.locator(".result .name", has_text="given.png").wait_for()
    assert page.locator(".result .shares li").first.is_visible()


def test_by_keyboard_alone(page: Page, photos: list[Path]) -> None:
    given(page, photos[0])
    page.locator("body").focus()
    seen = []
    for _ in range(7):
        page.keyboard.press("Tab")
        assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
        seen.append(page.evaluate("document.activeElement.textContent.trim().slice(0, 30)"))
    assert seen[:3] == ["Choose images", "Choose a folder", "Take a photo"]
    assert "Training images most like it" in seen
    page.locator("form button").focus()
    page.keyboard.press("Enter")
    page.locator("form [role=status]", has_text="Kept as").wait_for()
    with page.expect_file_chooser() as chosen:
        page.locator("[data-opens=files]").press("Enter")
    assert chosen.value.is_multiple()


@pytest.mark.parametrize("path", ["", "/interface"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_and_a_telephone_does_not_scroll_sideways(
    browser: Browser, address: str, photos: list[Path], tmp_path: Path, scheme: str, path: str
) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed")
    page = opened(browser, address, width=360, scheme=scheme)
    if path:
        page.goto(address + path)
    else:
        given(page, photos[0], written(tmp_path, "a long name" * 9))
        page.locator(".result:not(.failed) .alike summary").click()
        page.locator(".alike img").first.wait_for()
    found = axe.Axe().run(page).response["violations"]
    assert [(each["impact"], each["id"], each["nodes"][0]["html"]) for each in found] == []
    assert page.evaluate("document.documentElement.scrollWidth") == 360


def test_no_request_leaves_the_server_and_nothing_is_complained_of(
    browser: Browser, address: str, photos: list[Path]
) -> None:
    page, asked, said = browser.new_page(), [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.goto(address)
    page.wait_for_selector(SHOWN)
    given(page, photos[0])
    page.locator(".alike summary").click()
    page.locator(".alike img").first.wait_for()
    assert {url.split("/", 3)[2] for url in asked if not url.startswith("data:")} == {address.removeprefix("http://")}
    assert said == []


def test_a_server_that_has_gone_is_named(browser: Browser, address: str, photos: list[Path]) -> None:
    page = opened(browser, address)
    page.route("**/predict", lambda route: route.abort())
    given(page, photos[0])
    assert page.locator(".failed .answer").inner_text().startswith("The server did not answer")


def test_stop_leaves_what_has_not_begun(page: Page, photos: list[Path]) -> None:
    held: list[Route] = []
    page.route("**/predict", lambda route: held.append(route))
    page.set_input_files("#files", photos[:12])
    page.locator("#status", has_text="0 of 12 images").wait_for()
    page.locator("#stop").click()
    while len(held) < 4:
        page.wait_for_timeout(10)
    for route in held:
        route.continue_()
    page.locator("#status", has_text="4 images done.").wait_for()
    assert page.locator(".result").count() == len(held) == 4
    assert not page.locator("#working").is_visible()


def test_more_images_while_the_last_are_on_their_way(page: Page, photos: list[Path]) -> None:
    held: list[Route] = []
    page.route("**/predict", lambda route: held.append(route))
    page.set_input_files("#files", photos[:4])
    while len(held) < 4:
        page.wait_for_timeout(10)
    held.pop().continue_()
    held.pop().continue_()
    page.locator("#status", has_text="2 of 4 images").wait_for()
    page.set_input_files("#files", photos[4])
    page.locator("#status", has_text="2 of 5 images").wait_for()
    for route in held:
        route.continue_()
    page.locator("#status", has_text="5 images done.").wait_for()
