"""The report as people meet it: in the dark, on a telephone, by keyboard, without JavaScript, on paper."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pipeline.inspection.finding import Finding, Shown
from pipeline.report.html import write_page
from pipeline.report.mistakes import Alike, Mistake
from pipeline.report.page import pictured, write_report
from pipeline.report.result import Comparison
from tests.test_page import EVIL, PICTURE, many_classes, reliable
from tests.test_result import GOLDEN

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.browser

SECTIONS = 11
"""Of a page that has all that there may be."""

CELL = "a.opens[href='#pair-0-1']"


@pytest.fixture(scope="module")
def comparison() -> Comparison:
    """One with all that a page may show, a class and a file that are called as a script is, and a long name."""
    comparison = reliable(Comparison.open(GOLDEN))
    alike = tuple(Alike(key=f"train/{number}.png", label=number) for number in range(3))
    mistakes = tuple(
        Mistake(
            key=f"test/{EVIL}/{number}.png", true=number % 2, predicted=1 + number % 2, probability=0.9, alike=alike
        )
        for number in range(12)
    )
    return replace(
        comparison, classes=(EVIL, "jade", "teal" * 30), mistakes=mistakes, failed={"mlp": "the loss is nan"}
    )


@pytest.fixture(scope="module")
def report(comparison: Comparison, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "report.html"
    write_report(path, comparison, dict.fromkeys(pictured(comparison)[:-1], PICTURE))
    return path


@pytest.fixture(scope="module")
def of_many(comparison: Comparison, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page of many classes") / "report.html"
    mistakes = tuple(replace(each, true=2, predicted=1) for each in comparison.mistakes)
    write_report(path, replace(many_classes(comparison, 60), mistakes=mistakes), None)
    return path


@pytest.fixture(scope="module")
def inspected(comparison: Comparison, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What is wrong with images: pairs, labels, and a finding of no image."""
    path = tmp_path_factory.mktemp("inspected") / "inspect.html"
    long = f"train/{EVIL}/{'a long name ' * 6}"
    pairs = [
        Shown(key=f"{long}{number}.png", label=0, other=f"test/{number}.png", other_label=1, suggested=None)
        for number in range(3)
    ]
    labels = [Shown(key=f"{number}.png", label=1, other=None, other_label=None, suggested=2) for number in range(30)]
    findings = [
        Finding(code="leak", sentence="3 images", images=3, accuracy=0.9, without=0.8, shown=tuple(pairs)),
        Finding(code="label", sentence="40 images", images=40, accuracy=0.9, without=0.95, shown=tuple(labels)),
        Finding(code="few", sentence=f"{EVIL} has 3", images=0, accuracy=None, without=None, shown=()),
    ]
    keys = [key for finding in findings for one in finding.shown for key in (one.key, one.other) if key]
    write_page(
        path,
        "inspect.html",
        title=f"What is wrong with {EVIL}",
        made=comparison.made,
        findings=findings,
        classes=(*comparison.classes, ""),
        images=1000,
        pictures=dict.fromkeys(keys[:-1], PICTURE),
        folder=path.parent,
    )
    return path


def opened(browser: Browser, report: Path, *, width: int = 1280, scheme: str = "light", scripts: bool = True) -> Page:
    """The page in a window of its own."""
    window = {"viewport": {"width": width, "height": 900}, "color_scheme": scheme, "java_script_enabled": scripts}
    page = browser.new_context(**window).new_page()  # type: ignore[arg-type]
    page.goto(report.as_uri())
    return page


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("which", ["report", "of_many", "inspected"])
def test_axe_finds_nothing(browser: Browser, which: str, scheme: str, request: pytest.FixtureRequest) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed")
    page = opened(browser, request.getfixturevalue(which), scheme=scheme)
    page.evaluate("document.querySelectorAll('details').forEach((each) => (each.open = true))")
    found = axe.Axe().run(page).response["violations"]
    assert [(each["impact"], each["id"], each["nodes"][0]["html"]) for each in found] == []


@pytest.mark.parametrize("which", ["report", "of_many", "inspected"])
def test_a_telephone_shows_the_page_without_scrolling_sideways(
    browser: Browser, which: str, request: pytest.FixtureRequest
) -> None:
    page = opened(browser, request.getfixturevalue(which), width=360)
    page.evaluate("document.querySelectorAll('details').forEach((each) => (each.open = true))")
    assert page.evaluate("document.documentElement.scrollWidth") == 360


def test_without_javascript_all_is_there(browser: Browser, report: Path) -> None:
    page = opened(browser, report, scripts=False)
    sections = page.locator("section")
    assert sections.count() == SECTIONS
    assert all(section.is_visible() for section in sections.all())
    assert page.locator("#mistakes img").first.is_visible()
    assert not page.locator("#pair-0-1 img").first.is_visible()
    page.locator(CELL).click()
    assert page.locator("#pair-0-1 img").first.is_visible()
    for folded in page.locator("details").all():
        if folded.get_attribute("open") is None:
            folded.locator("> summary").click()
    pictures = page.locator("img").all()
    assert all(picture.is_visible() and picture.evaluate("(each) => each.naturalWidth") for picture in pictures)


def test_a_cell_opens_its_pictures_by_keyboard(browser: Browser, report: Path) -> None:
    page = opened(browser, report)
    page.locator(CELL).focus()
    page.keyboard.press("Enter")
    shown = page.locator("dialog img")
    assert shown.count() == 6
    assert shown.first.is_visible()
    assert page.locator("dialog h3").inner_text() == f"{EVIL}, taken for jade: 2 images"
    page.keyboard.press("Escape")
    assert not shown.first.is_visible()
    assert page.evaluate("document.activeElement.hash") == "#pair-0-1"


def test_what_has_the_focus_is_seen(browser: Browser, report: Path) -> None:
    page = opened(browser, report)
    for _ in range(20):
        page.keyboard.press("Tab")
        assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"


def test_names_are_text(browser: Browser, report: Path) -> None:
    page = opened(browser, report)
    assert page.evaluate("document.scripts.length") == 1
    assert page.locator("#mistakes b", has_text=EVIL).first.is_visible()
    assert page.locator("#mistakes .name", has_text=f"test/{EVIL}/0.png").is_visible()


def test_names_are_text_where_findings_are(browser: Browser, inspected: Path) -> None:
    page = opened(browser, inspected)
    assert page.evaluate("document.scripts.length") == 1
    assert page.locator("#findings", has_text=f"{EVIL} has 3").is_visible()
    assert page.locator("#finding-leak figcaption", has_text=EVIL).first.is_visible()


def test_no_request_leaves_the_file(browser: Browser, report: Path) -> None:
    page = browser.new_page()
    asked: list[str] = []
    said: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: said.append(message.text))
    page.goto(report.as_uri())
    page.locator(CELL).click()
    assert [url for url in asked if not url.startswith("data:")] == [report.as_uri()]
    assert said == []


def test_paper_is_white_and_shows_what_was_folded(browser: Browser, report: Path) -> None:
    page = opened(browser, report, scheme="dark")
    page.emulate_media(media="print", color_scheme="dark")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.locator("details:not([open])").count() == 0
