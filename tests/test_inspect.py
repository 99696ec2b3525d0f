"""`treehead inspect`, from the command line: what is planted in small images is found, listed and can be left out."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from PIL import Image

from features.errors import DecodeError
from features.sources.source import Payload
from features.storage import replacing
from features.trunk.spec import TrunkSpec
from pipeline.inspection.codes import CODES
from pipeline.inspection.finding import COLUMNS
from pipeline.stages import likeness
from pipeline.stages.likeness import DOUBLES, IMAGES
from tests.conftest import COLOURS, SMALL, Run, refused
from tests.test_near import pictures

OPTIONS = ("--backbone", "resnet18", "--image-size", "32")
"""Of a network that is quick; its weights are random, which tells colours apart."""

COMPARED = (*SMALL, "--heads", "linear", "--no-curve")


def write_pictures(folder: Path, colour: str, count: int, seed: int) -> None:
    """Write `count` smooth pictures, each different, in tones of one colour."""
    folder.mkdir(parents=True)
    for number, pixels in enumerate(pictures(count, seed)):
        toned = (pixels / 2 + np.array(COLOURS[colour]) / 2).astype(np.uint8)
        Image.fromarray(toned).save(folder / f"{number:03d}.png")


@pytest.fixture
def clean(tmp_path: Path) -> Path:
    """Pictures in train, val and test, none of them twice."""
    for seed, (split, count) in enumerate({"train": 14, "val": 4, "test": 7}.items()):
        for place, colour in enumerate(COLOURS):
            write_pictures(tmp_path / "set" / split / colour, colour, count, 10 * seed + place)
    return tmp_path / "set"


@pytest.fixture
def planted(clean: Path) -> Path:
    """These, with a training image in the test split, one there as JPEG as well, and a blue one said to be red."""
    shutil.copy(clean / "train/red/003.png", clean / "test/red/copy.png")
    Image.open(clean / "train/green/005.png").save(clean / "test/green/again.jpg", quality=80)
    shutil.move(clean / "train/blue/000.png", clean / "train/red/blue.png")
    return clean


def folder_of(out: Path = Path("artifacts")) -> Path:
    """What the command's files lie in; with `--group near` there is a folder of the images ungrouped beside it."""
    (folder,) = {path.parent for path in out.glob("inspect/*/findings.csv")} or (out / "inspect").iterdir()
    return folder


def findings(out: Path = Path("artifacts")) -> pd.DataFrame:
    return pd.read_csv(folder_of(out) / "findings.csv")


def keys_of(code: str, out: Path = Path("artifacts")) -> list[str]:
    found = findings(out)
    return found.loc[found["code"] == code, "key"].tolist()


def test_what_is_planted_is_found_and_listed(treehead: Run, planted: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert treehead("inspect", planted, *OPTIONS) == 0
    listed = findings()
    assert tuple(listed.columns) == COLUMNS
    leaks = listed[listed["code"] == "leak"].set_index("key")
    assert list(leaks.loc["test/red/copy.png", ["split", "label", "other"]]) == ["test", "red", "train/red/003.png"]
    assert leaks.loc["test/green/again.jpg", "other"] == "train/green/005.png"
    labels = listed[listed["code"] == "label"].set_index("key")
    assert list(labels.loc["train/red/blue.png", ["label", "suggested"]]) == ["red", "blue"]
    pd.testing.assert_frame_equal(
        pd.read_parquet(folder_of() / "findings.parquet").drop(columns="other"),
        listed.drop(columns="other"),
        check_dtype=False,
    )
    output = capsys.readouterr().out
    assert re.search(r"^leak +2 ", output, re.MULTILINE)
    assert f"images found: {folder_of() / 'findings.csv'} (leave them out: --exclude)" in output.splitlines()
    assert output.splitlines()[-1] == f"report: {folder_of() / 'inspect.html'}"
    told = json.loads((folder_of() / "findings.json").read_text())
    assert [each["code"] for each in told] == sorted((each["code"] for each in told), key=CODES.index)


def test_an_image_under_two_labels_is_a_conflict_and_twice_in_a_split_a_double(treehead: Run, clean: Path) -> None:
    shutil.copy(clean / "train/red/003.png", clean / "train/green/red.png")
    shutil.copy(clean / "train/blue/001.png", clean / "train/blue/copy.png")
    assert treehead("inspect", clean, *OPTIONS) == 0
    assert sorted(keys_of("conflict")) == ["train/green/red.png", "train/red/003.png"]
    assert keys_of("double") == ["train/blue/copy.png"]
    assert keys_of("leak") == []


def test_what_is_listed_can_be_left_out_as_it_is(
    treehead: Run, planted: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(planted / "train/green/003.png", planted / "test/green/a name\r of many.png")
    assert treehead("inspect", planted, *OPTIONS) == 0
    listed = folder_of() / "findings.csv"
    count = findings()["key"].nunique()
    capsys.readouterr()
    for suffix in (".csv", ".parquet"):
        out = f"out{suffix}"
        assert treehead("inspect", planted, *OPTIONS, "--exclude", listed.with_suffix(suffix), "--out", out) == 0
        assert f"left out: {count} images, as --exclude says" in capsys.readouterr().err
        assert keys_of("leak", Path(out)) == keys_of("label", Path(out)) == []


def test_the_exit_code_says_whether_there_is_a_finding_that_is_not_to_be(
    treehead: Run, planted: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert treehead("inspect", planted, *OPTIONS, "--fail-on", "conflict, leak") == 1
    assert "report: " in capsys.readouterr().out
    assert treehead("inspect", planted, *OPTIONS, "--fail-on", "conflict,absent") == 0


def test_an_unknown_finding_is_a_line(treehead: Run, clean: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = refused(treehead, capsys, "inspect", clean, "--fail-on", "leak,lable")
    assert line.startswith("treehead: --fail-on lable is no finding: expected some of leak, conflict, double, ")


def test_a_second_run_searches_nothing_again(
    treehead: Run, planted: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert treehead("inspect", planted, *OPTIONS) == 0
    first = capsys.readouterr()
    before = findings()
    monkeypatch.delattr(likeness, "near_doubles")
    assert treehead("inspect", planted, *OPTIONS) == 0
    again = capsys.readouterr()
    assert "near-doubles: reused" not in first.err
    assert "near-doubles: reused" in again.err.splitlines()
    assert again.out == first.out
    pd.testing.assert_frame_equal(findings(), before)


def test_pictures_are_shown_or_left_out_as_asked(treehead: Run, planted: Path) -> None:
    assert treehead("inspect", planted, *OPTIONS) == 0
    page = (folder_of() / "inspect.html").read_text()
    assert page.count("data:image/webp;base64,") >= 5
    assert not re.search(r"""(src|href)\s*=\s*["'](?!#|data:)""", page)
    assert treehead("inspect", planted, *OPTIONS, "--no-pictures") == 0
    page = (folder_of() / "inspect.html").read_text()
    assert "data:image" not in page
    assert "test/red/copy.png" in page


def test_names_of_classes_and_files_are_text_in_the_report(treehead: Run, planted: Path) -> None:
    evil = "<script>alert(1)<"
    for split in ("train", "val", "test"):
        (planted / split / "red").rename(planted / split / evil)
    (planted / "test" / evil / "copy.png").rename(planted / "test" / evil / '"><img onerror=alert(2)>.png')
    assert treehead("inspect", planted, *OPTIONS) == 0
    page = (folder_of() / "inspect.html").read_text()
    assert "&lt;script&gt;alert(1)&lt;" in page
    assert "<script>alert" not in page
    assert "<img onerror" not in page


def test_images_without_fault_are_said_to_be(treehead: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for place, split in enumerate(("train", "val", "test")):
        for number, kind in enumerate(("a", "b")):
            write_pictures(tmp_path / "set" / split / kind, "red", 12, 10 * place + number)
    assert treehead("inspect", tmp_path / "set", *OPTIONS, "--fail-on", "leak,conflict,double,shortcut") == 0
    assert "leak" not in capsys.readouterr().out
    assert not set(findings()["code"]) & {"leak", "conflict", "double"}


@pytest.mark.parametrize("name", [DOUBLES, IMAGES])
@pytest.mark.parametrize("left", [0, 100, None])
def test_a_damaged_file_is_a_line_that_says_what_to_delete(
    name: str, left: int | None, treehead: Run, clean: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert treehead("inspect", clean, *OPTIONS) == 0
    path = folder_of() / name
    whole = path.read_bytes()
    path.write_bytes(whole[:left] if left is not None else b"\0" * len(whole))
    line = refused(treehead, capsys, "inspect", clean, *OPTIONS)
    assert re.fullmatch(rf"treehead: {folder_of()} is damaged \(.+\): delete it and run again", line)
    shutil.rmtree(folder_of())
    assert treehead("inspect", clean, *OPTIONS) == 0


def test_pairs_of_other_images_are_damaged_too(
    treehead: Run, planted: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert treehead("inspect", planted, *OPTIONS) == 0
    images = pd.read_parquet(folder_of() / IMAGES)
    images[images["key"] != "test/red/copy.png"].to_parquet(folder_of() / IMAGES)
    assert f"{DOUBLES} names other images than {IMAGES}" in refused(treehead, capsys, "inspect", planted, *OPTIONS)


def test_a_run_killed_between_the_two_files_is_made_again(
    treehead: Run, planted: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(path: Path) -> object:
        if path.name == DOUBLES:
            raise KeyboardInterrupt
        return replacing(path)

    with monkeypatch.context() as patched:
        patched.setattr(likeness, "replacing", killed)
        assert treehead("inspect", planted, *OPTIONS) == 130
    assert (folder_of() / IMAGES).exists()
    assert "and the same command goes on from there" in capsys.readouterr().err
    assert treehead("inspect", planted, *OPTIONS) == 0
    assert "near-doubles: reused" not in capsys.readouterr().err
    assert "test/red/copy.png" in keys_of("leak")


def test_images_that_can_be_read_no_more_are_a_line(
    treehead: Run, planted: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert treehead("features", planted, *OPTIONS) == 0

    def gone(payload: Payload, spec: TrunkSpec) -> NDArray[np.uint8]:
        raise DecodeError("cut short")

    monkeypatch.setattr(likeness, "decode", gone)
    line = refused(treehead, capsys, "inspect", planted, *OPTIONS)
    assert line.startswith("treehead: none of 77 images of set can be read any more: see where they are")


@pytest.mark.parametrize("rows", [2, 3, 5])
def test_few_rows_are_of_some_oddness(rows: int) -> None:
    odd = likeness._oddness(np.random.default_rng(0).normal(size=(rows, 4)).astype(np.float16))
    assert np.isfinite(odd).all()
    assert odd.shape == (rows,)


def test_a_comparison_has_the_findings_and_quotes_accuracy_without_leaks(
    treehead: Run, planted: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(planted / "train/blue/001.png", planted / "test/red/blue.png")
    assert treehead("compare", planted, *COMPARED) == 0
    output = capsys.readouterr().out
    (report,) = Path("artifacts").glob("compare/*/report.html")
    metrics = json.loads((report.parent / "metrics.json").read_text())
    leak = next(each for each in metrics["findings"] if each["code"] == "leak")
    assert leak["images"] == 3
    assert "test/red/blue.png" in {one["key"] for one in leak["shown"]}
    assert 'id="finding-leak"' in report.read_text()
    quoted = f"Without 3 images whose doubles were learnt from, it is right in {leak['without']:.1%}."
    assert leak["accuracy"] == metrics["heads"]["linear"]["accuracy"] != leak["without"]
    assert quoted in output.splitlines()
    assert quoted in report.read_text()


def test_a_comparison_can_go_without_a_look_at_the_images(treehead: Run, planted: Path) -> None:
    assert treehead("compare", planted, *COMPARED, "--no-inspect") == 0
    (report,) = Path("artifacts").glob("compare/*/report.html")
    assert json.loads((report.parent / "metrics.json").read_text())["findings"] == []
    assert 'id="finding-' not in report.read_text()
    assert not Path("artifacts/inspect").exists()


def test_a_comparison_in_folds_tells_of_leaks_between_them(treehead: Run, tmp_path: Path) -> None:
    for place, colour in enumerate(COLOURS):
        write_pictures(tmp_path / "set" / colour, colour, 24, place)
    Image.open(tmp_path / "set/green/005.png").save(tmp_path / "set/green/again.jpg", quality=80)
    shutil.copy(tmp_path / "set/red/003.png", tmp_path / "set/red/copy.png")
    assert treehead("compare", tmp_path / "set", *COMPARED, "--folds", "5") == 0
    assert keys_of("double") == ["red/copy.png"]  # the same bytes are kept in one fold
    found = findings()
    apart = found[found["key"].isin(["green/005.png", "green/again.jpg"]) & found["code"].isin(["leak", "double"])]
    assert len(apart)


@pytest.fixture
def bursts(tmp_path: Path) -> Path:
    """Pictures without splits, some of which are there five times, each time a little brighter."""
    for place, colour in enumerate(COLOURS):
        folder = tmp_path / "set" / colour
        write_pictures(folder, colour, 20, place)
        for number in range(4):
            pixels = np.asarray(Image.open(folder / f"{number:03d}.png"))
            for step in range(1, 5):
                brighter = np.clip(pixels * (1 + step / 40), 0, 255).astype(np.uint8)
                Image.fromarray(brighter).save(folder / f"{number:03d}-{step}.png")
    return tmp_path / "set"


def test_bursts_can_be_kept_in_one_split(treehead: Run, bursts: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert treehead("inspect", bursts, *OPTIONS) == 0
    assert len(keys_of("leak")) > 3
    assert treehead("inspect", bursts, *OPTIONS, "--group", "near", "--out", "grouped") == 0
    assert " groups by near, " in capsys.readouterr().err
    assert keys_of("leak", Path("grouped")) == []
    images = pd.concat(map(pd.read_parquet, Path("grouped/inspect").glob("*/images.parquet")))
    grouped = images[images["group"].notna()]
    assert (grouped.groupby("group")["split"].nunique() == 1).all()
    assert grouped["group"].value_counts().max() >= 5


def test_what_makes_no_features_does_not_know_who_is_near(
    treehead: Run, clean: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = refused(treehead, capsys, "finetune", clean, "--backbone", "resnet18", "--group", "near")
    assert "--group near came, but nothing here tells which images are alike: give --group folder" in line
