"""What the stages leave behind, from the command line, on small images and a small network."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch

from features.storage import file_sha256
from pipeline.report.result import Comparison
from tests.conftest import COLOURS, SMALL, Run, refused, write_images

REPORT = re.compile(r"report: (.*report\.html)")


def files(folder: Path) -> dict[str, tuple[int, str]]:
    return {
        str(path.relative_to(folder)): (path.stat().st_mtime_ns, file_sha256(path))
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_compare_writes_metrics_and_a_report(
    treehead: Run, split_photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert treehead("compare", "--dataset", split_photos, *SMALL) == 0
    output = capsys.readouterr()
    *said, classifier, shown, command = output.out.splitlines()
    found = REPORT.fullmatch(shown)
    assert found
    report = Path(found[1])
    metrics: dict[str, Any] = json.loads((report.parent / "metrics.json").read_text())
    assert set(metrics["heads"]) == {"xgb", "linear", "mlp", "hybrid"}
    shipped = metrics["heads"][metrics["recommended"]["name"]]
    assert classifier == f"classifier: {shipped['file']}"
    assert command == f"next: treehead predict {shipped['file']} photo.jpg"
    interval = r"\(95 % interval \d+\.\d to \d+\.\d%\)"
    first = rf"Ship {metrics['recommended']['name']}: right in \d+\.\d% {interval}, tested on 18 test images\."
    assert any(re.fullmatch(first, line) for line in said)
    assert "Always saying the largest class (blue) would be right in 33.3%." in said
    for head in metrics["heads"].values():
        assert head["accuracy_low"] <= head["accuracy"] <= head["accuracy_high"]
        assert sum(map(sum, head["confusion_matrix"])) == 18
        assert Path(head["file"]).stat().st_size == head["bytes"]
        assert min(head["fit_seconds"], head["predict_us_per_image"], head["log_loss"]) > 0
    assert metrics["heads"]["linear"]["accuracy"] > 0.9
    assert len(metrics["differences"]) == 6
    assert metrics["transfer_learning"] is False
    assert metrics["features_us_per_image"] > 0
    assert "no transfer learning" in output.err
    assert "no transfer learning" in report.read_text()


def test_the_report_needs_no_other_file(compared: Path) -> None:
    page = next(compared.glob("compare/*/report.html")).read_text()
    assert not re.search(r"""(src|href)\s*=\s*["'](?!#|data:)""", page)
    assert "@import" not in page


def test_pictures_are_shown_or_left_out_as_asked(
    treehead: Run, split_photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    aside = split_photos / "test" / "aside"
    for before, after in (("red", "aside"), ("green", "red"), ("aside", "green")):
        (split_photos / "test" / before).rename(split_photos / "test" / after)
    assert not aside.exists()
    pages = []
    for option in ("--pictures", "--no-pictures"):
        assert treehead("compare", "--dataset", split_photos, *SMALL, "--heads", "linear", option) == 0
        found = REPORT.fullmatch(capsys.readouterr().out.splitlines()[-2])
        assert found
        pages.append(Path(found[1]).read_text())
    assert pages[0].count("data:image/webp;base64,") > 24
    assert "cannot be read any more" not in pages[0]
    assert "data:image" not in pages[1]
    assert "test/red/2" in pages[1]


def test_the_same_settings_never_do_the_work_twice(
    compared: Path, treehead: Run, split_photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = files(compared)
    capsys.readouterr()
    assert treehead("compare", "--dataset", split_photos, *SMALL) == 0
    output = capsys.readouterr()
    assert files(compared) == before
    assert REPORT.fullmatch(output.out.splitlines()[-2])
    for name in ("features", "xgb", "linear", "mlp", "hybrid", "compare"):
        assert re.search(rf"^{name}: .*reused", output.err, re.MULTILINE)


def test_a_comparison_of_other_files_is_made_again(compared: Path, treehead: Run, split_photos: Path) -> None:
    path = next(compared.glob("compare/*/metrics.json"))
    kept = Comparison.open(path)
    earlier = replace(kept["linear"], sha256="of a file that was deleted", accuracy=0.0)
    replace(kept, heads={**kept.heads, "linear": earlier}).write(path.parent)
    assert treehead("compare", "--dataset", split_photos, *SMALL) == 0
    again = Comparison.open(path)["linear"]
    assert again.accuracy == kept["linear"].accuracy
    assert again.sha256 == file_sha256(Path(again.file))


def test_a_reused_comparison_names_the_classifier_as_this_run_finds_it(
    compared: Path, treehead: Run, split_photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    assert treehead("compare", "--dataset", split_photos, *SMALL, "--out", compared.absolute()) == 0
    output = capsys.readouterr()
    assert "compare: reused" in output.err
    assert f"classifier: {compared.absolute()}/" in output.out


def test_other_settings_overwrite_nothing(compared: Path, treehead: Run, split_photos: Path) -> None:
    before = files(compared)
    assert treehead("compare", "--dataset", split_photos, *SMALL, "--seed", 1, "--heads", "linear") == 0
    assert treehead("xgb", "--dataset", split_photos, *SMALL, "--xgb.max-depth", 2) == 0
    after = files(compared)
    assert {name: after[name] for name in before} == before
    assert len(list(compared.glob("features/*"))) == 2
    assert len(list(compared.glob("models/*/xgb-*"))) == 2


def test_xgb_reuses_what_compare_has_trained(
    model: Path, treehead: Run, split_photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    assert treehead("xgb", "--dataset", split_photos, *SMALL) == 0
    assert capsys.readouterr().out == f"{model}\n"
    assert {path.name for path in model.parent.iterdir()} == {
        f"xgb.{suffix}" for suffix in ("joblib", "safetensors", "parquet", "ubj", "json")
    }
    card = json.loads(model.with_suffix(".json").read_text())
    assert card["classes"] == ["blue", "green", "red"]
    assert card["trunks"][0]["backbone"] == "resnet18"
    assert card["versions"]["xgboost"]
    assert card["files"]["xgb.joblib"]["sha256"] == file_sha256(model)
    assert card["device"] == "cpu"


def test_features_prints_where_the_table_is(
    treehead: Run, split_photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert treehead("features", "--dataset", split_photos, *SMALL[:4]) == 0
    folder = Path(capsys.readouterr().out.strip())
    assert folder.parent == Path("artifacts/features")
    assert re.fullmatch(r"split_photos-resnet18-flatten-[0-9a-f]{8}", folder.name)
    assert {path.name for path in folder.iterdir()} == {
        "part-00000.parquet",
        "errors.parquet",
        "manifest.json",
        "timing.json",
        "images.json",
    }


def test_weights_from_a_file_are_named_everywhere(
    treehead: Run, split_photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from torchvision.models import resnet18

    safetensors.torch.save_file(resnet18().state_dict(), tmp_path / "mine.safetensors")
    options = (*SMALL, "--weights", "mine.safetensors", "--heads", "xgb")
    assert treehead("compare", "--dataset", split_photos, *options) == 0
    output = capsys.readouterr()
    assert "no transfer learning" not in output.err
    assert "mine.safetensors weights" in output.out
    model = next(Path("artifacts").glob("models/*/xgb-*/xgb.joblib"))
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "mine.safetensors").rename(tmp_path / "elsewhere" / "moved.safetensors")
    image = split_photos / "test/red/200.png"
    assert "unknown weights" in refused(treehead, capsys, "predict", model, image)
    assert treehead("predict", model, image, "--weights", "elsewhere/moved.safetensors") == 0


def test_classes_may_be_called_as_averages_are(
    treehead: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = ("0", "accuracy", "f0", "macro avg", "weighted avg")
    for number, name in enumerate(names):
        for start, (split, count) in enumerate({"train": 4, "val": 1, "test": number + 1}.items()):
            write_images(tmp_path / "odd" / split / name, list(COLOURS)[number % 3], count, start=100 * start + number)
    assert treehead("compare", "--dataset", "odd", *SMALL, "--heads", "linear") == 0
    metrics = json.loads(next(Path("artifacts").glob("compare/*/metrics.json")).read_text())
    assert metrics["classes"] == list(names)
    linear = metrics["heads"]["linear"]
    assert [each["support"] for each in linear["by_class"]] == [1, 2, 3, 4, 5]
    assert linear["macro"]["f1"] == pytest.approx(sum(each["f1"] for each in linear["by_class"]) / 5)
    page = next(Path("artifacts").glob("compare/*/report.html")).read_text()
    assert all(f'<tr><th scope="row">{name}</th>' in page for name in names)


def test_a_head_that_is_no_better_than_a_guess_is_said_to_be(
    treehead: Run, split_photos: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("models.columns.workspace.FEW_ROWS", 0)
    validation = split_photos / "val"
    for before, after in (("red", "aside"), ("green", "red"), ("blue", "green"), ("aside", "blue")):
        (validation / before).rename(validation / after)
    assert treehead("compare", "--dataset", split_photos, *SMALL, "--heads", "knn") == 0
    output = capsys.readouterr()
    assert "! knn is no better on unseen images than a guess by the classes' frequencies (log-loss" in output.err
    assert "the guess 1.099): take another head, or give it more images" in output.err
    assert "knn !" in output.out
    metrics = json.loads(next(Path("artifacts").glob("compare/*/metrics.json")).read_text())
    assert metrics["heads"]["knn"]["worse_than_guess"] is True
