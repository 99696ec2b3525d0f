from __future__ import annotations

import re
from dataclasses import replace
from html import unescape
from pathlib import Path

import pytest

from features.storage import Json
from models.networks.settings import NETWORK
from pipeline.report.curve import Gain, LabelCurve, Point
from pipeline.report.mistakes import Alike, Mistake
from pipeline.report.page import COLUMNS, WORSE, answer, summary_table, write_report
from pipeline.report.reliability import Answered, Bin, Conformal, Reliability
from pipeline.report.result import Comparison, ContenderResult
from pipeline.report.statistics import NO_IMAGES, Confusion
from tests.test_result import GOLDEN

SECTIONS = ("ship", "contenders", "mistakes", "confusions", "classes", "reliability", "nodes", "data", "cost", "made")

EVIL = "<script>alert(1)</script>"

PICTURE = "data:image/webp;base64,UklGRhoAAABXRUJQVlA4TA0AAAAvAAAAEAcQERGIiP4HAA=="


@pytest.fixture
def comparison() -> Comparison:
    return Comparison.open(GOLDEN)


def page_of(comparison: Comparison, folder: Path, pictures: dict[str, str] | None = None) -> str:
    """The page, with what it says in one line and as it is read."""
    write_report(folder / "report.html", comparison, pictures)
    return (folder / "report.html").read_text()


def words_of(page: str) -> str:
    """What a page says, in one line."""
    body = re.sub(r"<(style|script)>.*?</\1>", "", page.split("<body>")[1], flags=re.DOTALL)
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", body)).split())


def reliable(comparison: Comparison) -> Comparison:
    """The comparison with all that may be known of probabilities and labels."""
    found = Reliability(
        error=0.021,
        error_low=0.01,
        error_high=0.04,
        brier=0.118,
        bins=(Bin(confidence=0.55, accuracy=0.5, images=9), Bin(confidence=0.9, accuracy=0.92, images=16)),
        answered=(
            Answered(wanted=0.95, threshold=0.62, answered=0.8, accuracy=0.96, reached=0.95),
            Answered(wanted=0.99, threshold=None, answered=0.0, accuracy=None, reached=0.97),
        ),
        conformal=Conformal(wanted=0.95, coverage=0.97, classes=1.25),
    )
    low, high, twice = (
        Point(
            images=images,
            accuracy=accuracy,
            accuracy_low=accuracy - 0.05,
            accuracy_high=accuracy + 0.05,
            log_loss=1 - accuracy,
            log_loss_low=0.9 - accuracy,
            log_loss_high=1.1 - accuracy,
        )
        for images, accuracy in ((21, 0.6), (42, 0.72), (84, 0.8))
    )
    heads = {name: replace(head, reliability=found) for name, head in comparison.heads.items()}
    gain = Gain(
        accuracy=0.08, accuracy_low=0.02, accuracy_high=0.14, log_loss=0.08, log_loss_low=0.02, log_loss_high=0.14
    )
    return replace(comparison, heads=heads, curves={"xgb": LabelCurve(points=(low, high), twice=twice, gain=gain)})


def many_classes(comparison: Comparison, count: int) -> Comparison:
    """The comparison with more classes than it had."""
    more = count - len(comparison.classes)

    def larger(head: ContenderResult) -> ContenderResult:
        return replace(
            head,
            by_class=(*head.by_class, *[NO_IMAGES] * more),
            confusion_matrix=None,
            confusions=(Confusion(true=2, predicted=1, count=17), Confusion(true=5, predicted=1, count=2)),
        )

    return replace(
        comparison,
        classes=(*comparison.classes, *(f"class {number}" for number in range(more))),
        class_counts={split: (*counts, *[0] * more) for split, counts in comparison.class_counts.items()},
        heads={name: larger(head) for name, head in comparison.heads.items()},
    )


def test_the_page_shows_all_of_a_comparison(comparison: Comparison, tmp_path: Path) -> None:
    page = page_of(replace(comparison, failed={"mlp": "the loss is nan"}), tmp_path)
    assert re.findall(r'<section id="(\w+)">', page) == list(SECTIONS)
    assert page.count("<svg") == len(comparison.tuning) + 1 > 1
    said = words_of(page)
    assert " ".join(comparison.verdict) in said
    assert "72.0% tested on 25 test images; 95 % interval 52.4 to 85.7%" in said
    assert "Always saying the largest class, teal , would be right in 36.0%" in said
    assert f"treehead predict {comparison['xgb'].file} photo.jpg" in said
    assert "1 of 25 test images are, byte for byte, among the training" in said
    assert "25 test images are few" in said
    assert "1 images could not be read" in said
    assert "Random weights: the network has learnt nothing" in said
    assert "mlp failed and is in no figure here: the loss is nan" in said
    assert "treehead compare photos --heads xgb,linear,knn --tune 3" in said
    assert "of the whole network" not in said


def test_the_page_leaves_out_what_there_is_not(comparison: Comparison, tmp_path: Path) -> None:
    heads, recommended = {NETWORK: comparison["xgb"]}, replace(comparison.recommended, name=NETWORK)
    less = replace(comparison, heads=heads, recommended=recommended, differences=(), nodes=None, tuning={}, mistakes=())
    page = page_of(less, tmp_path)
    assert "nodes" not in re.findall(r'<section id="(\w+)">', page)
    assert page.count("<svg") == 1
    assert "Two on the same images" not in page
    assert f"those of {NETWORK} are of the whole network" in page


def test_what_probabilities_and_labels_are_worth_is_shown_where_it_is_known(
    comparison: Comparison, tmp_path: Path
) -> None:
    page = page_of(reliable(comparison), tmp_path)
    assert page.count("<svg") == len(comparison.tuning) + 3
    said = words_of(page)
    assert "off by 2.1 points on average (expected calibration error, 95 % interval 1.0 to 4.0)" in said
    assert "To be right in 95%: answer where the probability is 0.62 or more. That was 80.0% of the images" in said
    assert "No threshold makes 99% of what it answers right." in said
    assert "did so in 97.0%, with 1.25 classes on average" in said
    assert "Twice the images (14 more a class) would be worth about 8.0 points of accuracy (2.0 to 14.0)." in said


def test_no_python_is_shown_as_text(comparison: Comparison, tmp_path: Path) -> None:
    parameters: dict[str, Json] = {
        "parts": {"xgb": {"external": False, "limit": None}},
        "penalties": [0.3, 0.1],
        "none": {},
    }
    head = replace(comparison["xgb"], parameters=parameters)
    said = words_of(page_of(replace(comparison, heads={**comparison.heads, "xgb": head}), tmp_path))
    assert "parts xgb external no limit not set penalties 0.3, 0.1 none none" in said
    assert not re.search(r"\b(None|True|False)\b|[{}]|\[\w", said)


def test_each_of_the_images_tested_in_folds_was_unseen(comparison: Comparison, tmp_path: Path) -> None:
    folded = replace(comparison, folds=5, images=60)
    assert answer(folded)[0].endswith("tested on each of 60 images by classifiers that had not seen it (5 folds).")
    assert "tested on each of 60 images by classifiers that had not seen it (5 folds); 95 %" in words_of(
        page_of(folded, tmp_path)
    )


def test_mistakes_are_shown_with_what_is_like_them(comparison: Comparison, tmp_path: Path) -> None:
    pictures = {"test/amber/61.png": PICTURE, "train/jade/07.png": PICTURE}
    page = page_of(comparison, tmp_path, pictures)
    assert page.count("<img") == 3
    assert f'<img src="{PICTURE}" alt="jade: train/jade/07.png"' in page
    said = words_of(page)
    assert "amber taken for jade probability 93.8% test/amber/61.png" in said
    assert "3 images cannot be read any more: their names stand." in said
    assert "It is wrong in 7 images; the report keeps 2 of them" in said
    assert "amber, taken for jade: 2 images, of which 1 are shown" in said
    assert '<a class="opens" href="#pair-0-1" aria-label="2 amber, taken for jade: show">2</a>' in page
    assert '<div class="group" id="pair-0-1">' in page


def test_without_pictures_names_stand(comparison: Comparison, tmp_path: Path) -> None:
    page = page_of(comparison, tmp_path)
    assert "<img" not in page
    assert "data:image" not in page
    assert "Pictures were left out (--no-pictures): names stand for them." in words_of(page)
    assert "train/jade/07.png" in words_of(page)


def test_names_are_text_whatever_they_hold(comparison: Comparison, tmp_path: Path) -> None:
    mistake = Mistake(key=EVIL, true=0, predicted=1, probability=0.9, alike=(Alike(key=EVIL, label=1),))
    odd = replace(comparison, dataset=EVIL, table=EVIL, classes=(EVIL, '"><img src=x>', "{{ 7 }}"), mistakes=(mistake,))
    page = page_of(odd, tmp_path, {EVIL: PICTURE})
    assert page.count("<script") == 1
    assert "alert(1)" not in re.sub(r"&lt;script&gt;alert\(1\)&lt;/script&gt;", "", page)
    assert "<img src=x>" not in page
    assert "{{ 7 }}" in page


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
    assert WORSE not in words_of(page_of(comparison, tmp_path))
    summary_table(comparison)
    assert "!" not in capsys.readouterr().out
    worse = replace(comparison, heads={**comparison.heads, "knn": replace(comparison["knn"], worse_than_guess=True)})
    summary_table(worse)
    *_, last, note = capsys.readouterr().out.splitlines()
    assert last.startswith("knn !")
    assert note == WORSE
    page = page_of(worse, tmp_path)
    assert '<th scope="row">knn !</th>' in page
    assert WORSE in words_of(page)


def test_of_many_classes_the_page_lists_the_most_frequent_confusions(comparison: Comparison, tmp_path: Path) -> None:
    page = page_of(many_classes(comparison, 60), tmp_path)
    assert "Confusion matrix" not in page
    assert 'aria-label="17 teal, taken for jade: show">17</a>' in page
    said = words_of(page)
    assert "class 2 jade 2" in said
    assert "20 more classes, which do better" in said


def test_classes_go_from_worst_to_best_with_intervals(comparison: Comparison, tmp_path: Path) -> None:
    said = words_of(page_of(comparison, tmp_path)).split("most often taken for ")[1]
    assert said.startswith("teal 66.7 35.4–87.9 85.7 75.0 14 9 6 jade (2) amber 75.0 40.9–92.9 75.0 75.0 14 8 6")


def test_a_class_without_test_images_has_dashes_and_comes_last(comparison: Comparison, tmp_path: Path) -> None:
    best = comparison["xgb"]
    heads = {**comparison.heads, "xgb": replace(best, by_class=(NO_IMAGES, *best.by_class[1:]))}
    said = words_of(page_of(replace(comparison, heads=heads), tmp_path))
    assert "amber – – – – 14 8 6 jade (2) Mean of those with images" in said
