"""Label curves: what is foretold, which images are drawn, and what the command and the comparison make of them."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from scipy.stats import norm

from benchmarks import curve as bench
from features.table.folded import FoldedTable
from features.table.table import Rows
from models.columns.workspace import Workspace, learnt_from
from models.heads.head import Head, OnStep
from models.heads.registry import make_head
from pipeline.report.curve import AtSize, LabelCurve, label_curve, worth
from pipeline.report.result import Comparison
from pipeline.stages.curve import curve_beside, measure_curve, part_of, shares_of, sizes_of
from tests.conftest import CPU, SMALL, Run, refused
from tests.test_compare import files
from tests.test_heads import MemoryTable

IMAGES = (250, 354, 500, 707, 1000)
TWICE = 2 * IMAGES[-1]
COUNTS = {"train": (80, 40, 20, 3, 1), "validation": (20, 10, 5, 1, 0), "test": (20, 20, 20, 20, 20)}
"""Images of each class in each split."""


def simulated(random: np.random.Generator, exponent: float = 0.5) -> tuple[list[AtSize], float]:
    """Draws on 400 test images whose error falls as a power law, and the error that comes of twice the images."""
    hard = random.normal(size=400)

    def wrong(images: float, draws: int) -> NDArray[np.bool_]:
        error = 0.1 * (images / IMAGES[-1]) ** -exponent * np.exp(0.1 * random.normal(size=(draws, 1)))
        latent = np.sqrt(0.7) * hard + np.sqrt(0.3) * random.normal(size=(draws, 400))
        return np.asarray(latent > norm.isf(error))

    sizes = []
    for images in IMAGES:
        found = wrong(images, 5 if images < IMAGES[-1] else 1)
        sizes.append(
            AtSize(images=images, learnt=images, wrong=found, loss=np.where(found, 2.0, 0.1).astype(np.float32))
        )
    return sizes, float(wrong(2 * IMAGES[-1], 1).mean())


@pytest.mark.parametrize("exponent", [0.0, 0.3, 0.8])
def test_what_comes_lies_in_the_band_of_what_was_foretold(exponent: float) -> None:
    random, inside = np.random.default_rng(0), 0
    for _ in range(100):
        sizes, came = simulated(random, exponent)
        twice = label_curve(sizes, TWICE, np.arange(400)).twice
        assert twice
        inside += twice.accuracy_low <= 1 - came <= twice.accuracy_high
    assert inside >= 90


def test_a_gain_is_what_twice_has_more_and_a_steep_curve_shows_it() -> None:
    found = label_curve(simulated(np.random.default_rng(1), 1.0)[0], TWICE, np.arange(400))
    assert found.twice
    assert found.gain
    last = found.points[-1]
    assert found.twice.images == 2 * last.images
    assert found.gain.accuracy == pytest.approx(found.twice.accuracy - last.accuracy)
    assert found.gain.log_loss == pytest.approx(last.log_loss - found.twice.log_loss)
    assert 0 < found.gain.accuracy_low < found.gain.accuracy < found.gain.accuracy_high < 0.1
    assert worth(found, classes=10).startswith("Twice the images (100 more a class) would be worth about ")
    for point in (*found.points, found.twice):
        assert 0 <= point.accuracy_low < point.accuracy < point.accuracy_high <= 1
        assert 0 <= point.log_loss_low < point.log_loss < point.log_loss_high


def test_twice_of_what_makes_no_mistakes_is_worth_no_more_than_luck() -> None:
    draws = [np.zeros((5 if images < IMAGES[-1] else 1, 50), bool) for images in IMAGES]
    sizes = [
        AtSize(images=images, learnt=images, wrong=each, loss=np.zeros(each.shape, np.float32))
        for images, each in zip(IMAGES, draws, strict=True)
    ]
    found = label_curve(sizes, TWICE, np.arange(50))
    assert found.twice
    assert found.gain
    assert found.points[-1].accuracy == found.points[-1].accuracy_high == found.twice.accuracy == 1
    assert 0.85 < found.points[-1].accuracy_low < 1
    assert found.gain.accuracy_low < found.gain.accuracy == 0
    assert "may be worth no more than luck: about 0.0 points of accuracy (−" in worth(found, 10)


def test_where_less_of_twice_the_images_is_learnt_from_less_is_foretold_and_less_surely() -> None:
    sizes, _ = simulated(np.random.default_rng(1), 1.0)
    all_learnt, some_steer = (label_curve(sizes, learnt, np.arange(400)) for learnt in (TWICE, TWICE * 9 // 10))
    assert all_learnt.points == some_steer.points
    assert all_learnt.gain
    assert some_steer.gain
    assert some_steer.twice
    assert some_steer.twice.images == TWICE
    assert 0 < some_steer.gain.accuracy < all_learnt.gain.accuracy
    assert some_steer.gain.accuracy_low < all_learnt.gain.accuracy_low


def test_of_many_images_those_that_steer_are_not_learnt_from() -> None:
    assert learnt_from({"train": 899, "validation": 100, "test": 300}) == 999
    assert learnt_from({"train": 900, "validation": 100, "test": 300}) == 900


def test_test_images_of_the_same_bytes_count_once() -> None:
    sizes, _ = simulated(np.random.default_rng(2))
    alone, alike = (label_curve(sizes, TWICE, groups).points[-1] for groups in (np.arange(400), np.arange(400) // 20))
    twentieth = [
        AtSize(
            images=each.images,
            learnt=each.learnt,
            wrong=each.wrong.repeat(20, axis=1),
            loss=each.loss.repeat(20, axis=1),
        )
        for each in sizes
    ]
    counted, once = (
        label_curve(twentieth, TWICE, groups).points[-1] for groups in (np.arange(8000), np.arange(400).repeat(20))
    )
    assert alone.accuracy == alike.accuracy == counted.accuracy
    assert counted.accuracy_low > once.accuracy_low == pytest.approx(alone.accuracy_low, abs=0.005)


@pytest.fixture
def table() -> FoldedTable:
    """Five classes in 20 columns, two of them rare."""
    random = np.random.default_rng(0)
    parts, rows = {}, []
    for split, counts in COUNTS.items():
        y = np.repeat(np.arange(5, dtype=np.int32), counts)
        x = random.normal(size=(len(y), 20)).astype(np.float32)
        x[np.arange(len(y)), y] += 1.5
        keys = np.array([f"{split}{number}" for number in range(len(y))], object)
        parts[split] = Rows(keys=keys, x=x, y=y)
        rows.append(pd.DataFrame({"key": keys, "split": split, "label": y, "sha256": keys, "group": None}))
    features = np.concatenate([part.x for part in parts.values()]).astype(np.float16)
    return FoldedTable(MemoryTable(parts, ("a", "b", "c", "d", "e")), features, pd.concat(rows, ignore_index=True))


@pytest.fixture(autouse=True)
def five_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    """As many as there are."""
    monkeypatch.setattr("pipeline.stages.curve.DRAWS", 5)


def knn(seed: int = 0) -> Head:
    return make_head("knn", seed=seed, device=CPU)


def test_sizes_are_nested_and_keep_classes_and_splits_in_proportion(table: FoldedTable) -> None:
    sizes = sizes_of(table, seed=0)
    assert list(sizes) == sorted(sizes) == [45, 64, 90, 128, 180]
    assert [len(views) for views in sizes.values()] == [5, 5, 5, 5, 1]
    quarter = sizes[45][0]
    assert np.bincount(quarter.labels("train")).tolist() == [19, 9, 5, 2, 1], "two of each class, where it has two"
    assert np.bincount(quarter.labels("validation"), minlength=5).sum() == 9
    for views in sizes.values():
        assert all(view.rows["test"] == 100 for view in views)
    for draw in range(5):
        kept = [set(views[draw % len(views)].keys[views[draw % len(views)].splits != ""]) for views in sizes.values()]
        assert all(smaller < larger for smaller, larger in pairwise(kept))
    assert len({tuple(view.splits) for view in sizes[45]}) == 5


def test_too_few_images_have_no_curve_and_nothing_is_fitted(table: FoldedTable, tmp_path: Path) -> None:
    first = pd.Series(table.labels("train")).drop_duplicates().index
    few = table.with_splits(np.where(np.arange(len(table.keys)) < 144, "", table.splits))
    splits = few.splits.copy()
    splits[first] = "train"
    splits[145:180] = ""
    found = measure_curve(knn(), few.with_splits(splits), tmp_path)
    assert found == LabelCurve(points=(), twice=None, gain=None)
    assert not list(tmp_path.iterdir())
    assert worth(found, 5) == "There are too few images to say what more of them would bring."


def test_an_interrupted_curve_goes_on_with_what_it_lacks(
    table: FoldedTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fits: list[Head] = []
    head = knn()
    real = type(head).fit

    stop = 8

    def fit(self: Head, table: FoldedTable, workspace: Workspace, on_step: OnStep) -> Head:
        if len(fits) == stop:
            raise KeyboardInterrupt
        fits.append(self)
        return real(self, table, workspace, on_step)

    monkeypatch.setattr(type(head), "fit", fit)
    with pytest.raises(KeyboardInterrupt):
        measure_curve(head, table, tmp_path)
    stop = 100
    found = measure_curve(head, table, tmp_path)
    assert len(fits) == 21
    kept = files(tmp_path)
    assert measure_curve(head, table, tmp_path) == found
    assert files(tmp_path) == kept
    assert measure_curve(knn(seed=1), table, tmp_path) != found, "another seed draws others"


def test_a_comparison_takes_the_recommended_head_or_linear_if_these_are_quick(
    table: FoldedTable, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    heads = {"linear": (make_head("linear", seed=0, device=CPU), 11.8), "knn": (knn(), 0.1)}
    assert list(curve_beside(heads, "knn", table, tmp_path)) == ["knn"]
    assert list(curve_beside(heads, "network", table, tmp_path)) == ["linear"]
    assert curve_beside({"linear": (knn(), 12.1)}, "linear", table, tmp_path) == {}
    assert "label curve: left out, it would take more than 120 s" in capsys.readouterr().err


def test_the_command_prints_a_table_and_a_sentence_and_writes_both(
    treehead: Run, split_photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ("curve", split_photos, "--backbone", "resnet18", "--image-size", 32, "--heads", "linear,knn")
    assert treehead(*command) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[:7]] == ["linear", "images", "12", "18", "24", "35", "48"]
    assert lines[7].startswith("96, foretold")
    assert lines[8].startswith("Twice the images (16 more a class) ")
    picture = Path(lines[-1].removeprefix("curve: "))
    assert picture.read_text().startswith("<svg")
    content = json.loads((picture.parent / "curve.json").read_text())
    assert list(content["heads"]) == ["linear", "knn"]
    assert content["heads"]["linear"]["twice"]["images"] == 96
    damaged = next(Path("artifacts").glob("models/*/curve-*/*.safetensors"))
    damaged.write_bytes(damaged.read_bytes()[:-1])
    assert f"{damaged} is damaged" in refused(treehead, capsys, *command)
    assert "unknown head 'network': expected some of xgb, linear, mlp, knn, hybrid" in refused(
        treehead, capsys, *command[:-1], "network"
    )


def test_a_comparison_says_what_more_labels_would_bring_unless_told_not_to(
    treehead: Run, split_photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ("compare", split_photos, *SMALL, "--heads", "linear,knn")
    assert treehead(*command) == 0
    assert "Twice the images (16 more a class) " in capsys.readouterr().out
    (folder,) = Path("artifacts/compare").iterdir()
    comparison = Comparison.open(folder)
    (found,) = comparison.curves.values()
    assert list(comparison.curves) == [comparison.recommended.name]
    assert found.points[-1].accuracy == pytest.approx(comparison[comparison.best].accuracy)
    assert treehead(*command, "--no-curve") == 0
    assert "Twice the images" not in capsys.readouterr().out
    (other,) = set(Path("artifacts/compare").iterdir()) - {folder}
    assert Comparison.open(other).curves == {}


def test_the_benchmark_foretells_halves_and_fails_where_too_little_holds(
    table: FoldedTable, benchmark: Run, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench, "prepare", lambda _: ([knn()], table))
    monkeypatch.setattr(bench, "open_images", lambda *_: None)
    monkeypatch.setattr(bench, "AT_LEAST", 0.0)
    assert benchmark("curve", "digits", "--seeds", 2) == 0
    last = capsys.readouterr().out.splitlines()[-2].split()
    assert last[:2] == ["all", "4"]
    found = json.loads(Path("artifacts/bench/curve.json").read_text())["forecasts"]
    assert [each["images"] for each in found] == [90, 45, 90, 45]
    whole = part_of(table, shares_of(table, np.random.default_rng(0)), 1.0)
    assert whole.rows == table.rows
    monkeypatch.setattr(bench, "AT_LEAST", 1.1)
    assert benchmark("curve", "digits", "--seeds", 2) == 1


def test_a_part_of_the_images_is_a_part_of_the_groups(table: FoldedTable) -> None:
    index = table.index()
    turn = index.groupby(["split", "label"]).cumcount() % 6
    group = index["split"] + index["label"].astype(str) + "-" + turn.astype(str)
    grouped = FoldedTable(table, table._x, index.assign(group=group))
    sizes = group.value_counts()
    for view in sizes_of(grouped, seed=0)[45]:
        learnt = group[np.isin(view.splits, ["train", "validation"])].value_counts()
        torn = (learnt < sizes[learnt.index]).sum()
        assert torn <= 9, "one of each class in each split at most"
