from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from models.networks.settings import NETWORK
from pipeline.report.page import COLUMNS, WORSE, summary_table, write_report
from pipeline.report.result import Comparison
from pipeline.report.statistics import NO_IMAGES, Confusion
from tests.test_result import GOLDEN

SECTIONS = ("The heads", "Two heads on the same images", "Networks and nodes", "The search", "Confusion matrices")


@pytest.fixture
def comparison() -> Comparison:
    return Comparison.open(GOLDEN)


def test_the_page_shows_all_of_a_comparison(comparison: Comparison, tmp_path: Path) -> None:
    failed = replace(comparison, failed={"mlp": "the loss is nan"})
    write_report(tmp_path / "report.html", failed)
    page = (tmp_path / "report.html").read_text()
    assert all(f"<h2>{section}</h2>" in page for section in SECTIONS)
    assert page.count("<svg") == 3 + 2 * len(comparison.heads)
    assert " ".join(comparison.verdict) in page
    assert "1 of 25 test images are, byte for byte, among the training" in page
    assert "1 images could not be read" in page
    assert "mlp failed and is in no figure here: the loss is nan" in page
    assert "of the whole network" not in page


def test_the_page_leaves_out_what_there_is_not(comparison: Comparison, tmp_path: Path) -> None:
    less = replace(comparison, heads={NETWORK: comparison["xgb"]}, differences=(), nodes=None, tuning={})
    write_report(tmp_path / "report.html", less)
    page = (tmp_path / "report.html").read_text()
    assert not any(f"<h2>{section}</h2>" in page for section in SECTIONS[1:4])
    assert "tune s" not in page
    assert f"those of {NETWORK} of the whole network" in page


def test_the_terminal_shows_one_line_a_head(comparison: Comparison, capsys: pytest.CaptureFixture[str]) -> None:
    unknown = replace(comparison["knn"], predict_us_per_image=None)
    summary_table(replace(comparison, heads={**comparison.heads, "knn": unknown}))
    title, columns, *rows = capsys.readouterr().out.splitlines()
    assert title == "photos, 25 test images, alexnet.features.4 with random weights"
    assert all(name in columns for name in COLUMNS)
    assert [row.split()[0] for row in rows] == ["xgb", "linear", "knn"]
    assert rows[0].split()[1:3] == ["72.00", "52.42–85.72"]
    assert "–" in rows[2].split()


def test_a_head_that_is_no_better_than_a_guess_is_marked(
    comparison: Comparison, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_report(tmp_path / "report.html", comparison)
    summary_table(comparison)
    assert "!" not in capsys.readouterr().out
    assert WORSE.replace("'", "&#39;") not in (tmp_path / "report.html").read_text()
    worse = replace(comparison, heads={**comparison.heads, "knn": replace(comparison["knn"], worse_than_guess=True)})
    write_report(tmp_path / "report.html", worse)
    summary_table(worse)
    *_, last, note = capsys.readouterr().out.splitlines()
    assert last.startswith("knn !")
    assert note == WORSE
    page = (tmp_path / "report.html").read_text()
    assert "<td>knn !</td>" in page
    assert WORSE.replace("'", "&#39;") in page


def test_of_many_classes_the_page_lists_the_most_frequent_confusions(comparison: Comparison, tmp_path: Path) -> None:
    mistakes = (Confusion(true=2, predicted=1, count=17),)
    many = {name: replace(h, confusion_matrix=None, confusions=mistakes) for name, h in comparison.heads.items()}
    write_report(tmp_path / "report.html", replace(comparison, heads=many))
    page = (tmp_path / "report.html").read_text()
    assert "Confusion matrices" not in page
    assert page.count("<tr><td>teal</td><td>jade</td><td>17</td></tr>") == len(many)


def test_the_page_has_the_rates_of_each_class(comparison: Comparison, tmp_path: Path) -> None:
    write_report(tmp_path / "report.html", comparison)
    rows = (tmp_path / "report.html").read_text().split("<h2>Class by class</h2>")[1].split("</tr>")
    found = [" ".join(row.replace("<td>", " ").replace("</td>", " ").split()) for row in rows]
    best = comparison["xgb"].by_class[0]
    rates = " ".join(f"{100 * share:.1f}" for share in (best.precision, best.recall, best.f1) if share is not None)
    assert found[1] == f"</thead> <tbody> <tr> amber {rates} {best.support}"


def test_a_class_without_test_images_has_dashes(comparison: Comparison, tmp_path: Path) -> None:
    best = comparison["xgb"]
    heads = {**comparison.heads, "xgb": replace(best, by_class=(NO_IMAGES, *best.by_class[1:]))}
    write_report(tmp_path / "report.html", replace(comparison, heads=heads))
    page = (tmp_path / "report.html").read_text()
    assert "<tr><td>amber</td><td>–</td><td>–</td><td>–</td><td>0</td></tr>" in page.replace("\n", "")
    assert "test images are few: an accuracy may be off" in page
