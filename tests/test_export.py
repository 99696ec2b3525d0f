"""Classifiers as ONNX: what the file says, what it says of itself, and that nothing else is ever written."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from PIL import Image

from benchmarks.export import DEFECTS
from features.errors import TrunkError
from features.sources.decode import decode
from features.trunk.engine import onnx_forward
from features.trunk.exported import FEATURES, IMAGES, PREPARED, export_square, export_trunk
from features.trunk.trunk import Trunk
from models.card import load_classifier, read_card
from models.export import heads
from models.export.classifier import export_classifier
from models.export.heads import LABEL, PROBABILITIES, export_head
from models.heads.registry import HEADS
from models.heads.settings import XgbSettings
from pipeline.errors import ExportError
from pipeline.export import standalone
from pipeline.export.gate import Checked, agreement, check_features, session
from pipeline.export.origin import table_of
from tests.conftest import CPU, EXACT, ROOT, SMALL, Run, make_tiny_trunk, refused
from tests.test_heads import MemoryTable, fitted, toy_rows, trees
from tests.test_taken_away import take

SHAPES = [(2, 20, 24, 3), (1, 18, 18, 3), (1, 301, 200, 3), (1, 10, 90, 3), (3, 77, 5, 3), (1, 1, 1, 3)]


def run(model: onnx.ModelProto, output: str, **inputs: object) -> Any:
    """One output of a model."""
    onnx.checker.check_model(model)
    return session(model).run([output], inputs)[0]


def trunk_like(trunk: Trunk, **changes: Any) -> Trunk:
    """The same trunk, its specs with other values."""
    return Trunk([replace(spec, **changes) for spec in trunk.specs], trunk.module, CPU)


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_images_are_resized_to_the_very_pixels(shape: tuple[int, ...], interpolation: str, tiny_trunk: Trunk) -> None:
    images = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    planes = torch.from_numpy(images).permute(0, 3, 1, 2)
    trunk = trunk_like(tiny_trunk, resize=18, interpolation=interpolation)
    found = run(export_square(trunk), PREPARED, images=images)
    assert np.array_equal(found, trunk.prepare(planes).permute(0, 2, 3, 1).numpy())


def test_resizing_that_onnx_has_not(tiny_trunk: Trunk) -> None:
    with pytest.raises(TrunkError, match=r"16 px out of 16 px, lanczos: expected bilinear or bicubic"):
        export_square(trunk_like(tiny_trunk, interpolation="lanczos"))
    with pytest.raises(TrunkError, match="and no padding"):
        export_square(trunk_like(tiny_trunk, resize=12))


@pytest.mark.parametrize("pool", ["none", "avg", "max", "avg3x3", "avg5x5"])
def test_a_trunk_gives_its_features(pool: str) -> None:
    trunk = trunk_like(make_tiny_trunk("early", "pool"), pool=pool)
    images = torch.randint(0, 256, (5, 3, 16, 16), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    expected = np.hstack(trunk.forward(images)).astype(np.float32)
    found = run(export_trunk(trunk), FEATURES, prepared=images.permute(0, 2, 3, 1).numpy())
    assert np.array_equal(found, found.astype(np.float16))
    assert found == pytest.approx(expected, abs=2e-3)
    assert np.array_equal(np.hstack(trunk.forward(images)), expected)  # it is still frozen


@pytest.mark.parametrize("pool", ["none", "avg3x3", "avg4x4", "avg5x5"])
def test_a_trunk_of_onnx_runtime_gives_the_very_features(pool: str) -> None:
    tiny = make_tiny_trunk("early")
    forward = onnx_forward(tiny.module, ["early"], 16)
    assert forward
    trunk = Trunk([replace(tiny.spec, pool=pool)], tiny.module, CPU, forward=forward)
    images = torch.randint(0, 256, (50, 3, 16, 16), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    found = run(export_trunk(trunk), FEATURES, prepared=images.permute(0, 2, 3, 1).numpy())
    assert np.array_equal(found, np.hstack(trunk.forward(images)))


@pytest.mark.parametrize("classes", [2, 3, 12])
@pytest.mark.parametrize("name", list(HEADS))
def test_a_head_says_the_same(name: str, classes: int, tmp_path: Path) -> None:
    taken = take(name, classes, tmp_path)
    head, _ = load_classifier(taken.path)
    exported = export_head(head)
    found = run(exported, PROBABILITIES, features=taken.x)
    assert found == pytest.approx(taken.said, abs=1e-5)
    assert list(run(exported, LABEL, features=taken.x)) == [head.classes_[number] for number in found.argmax(axis=1)]


def of_unlike_classes() -> MemoryTable:
    """A table whose classes are not of one size, so that trees do not begin alike."""
    sizes = {"train": 90, "validation": 30, "test": 40}
    rows = {split: toy_rows(count, [0, 0, 0, 1, 1, 2], seed) for seed, (split, count) in enumerate(sizes.items())}
    return MemoryTable(rows, ("a", "b", "c"))


@pytest.mark.parametrize("defect", list(DEFECTS))
def test_trees_that_are_exported_wrongly(defect: str, monkeypatch: pytest.MonkeyPatch) -> None:
    table = of_unlike_classes()
    head = trees(table, XgbSettings(rounds=8))
    _, checked = check_features(head, export_head(head), table)
    assert checked.images == 70
    assert checked.off < 1e-6
    monkeypatch.setattr(heads, "ensemble", DEFECTS[defect](heads.ensemble))
    with pytest.raises(ExportError, match=r"not exported: by features of 70 images ONNX Runtime is up to [\d.]+ off"):
        check_features(head, export_head(head), table)


def test_labels_that_are_swapped(monkeypatch: pytest.MonkeyPatch) -> None:
    table = of_unlike_classes()
    head = fitted("linear", table)
    head.classes_ = ("c", "b", "a")
    exported = export_head(head)
    head.classes_ = table.classes
    with pytest.raises(ExportError, match="the labels are not those of the highest probabilities"):
        check_features(head, exported, table)


@pytest.fixture
def model(treehead: Run, split_photos: Path) -> Path:
    """Trees on a few photographs."""
    assert treehead("xgb", split_photos, *SMALL, *EXACT) == 0
    return next(Path("artifacts").glob("models/*/xgb-*/xgb.joblib"))


def exported_card(path: Path) -> tuple[dict[str, Any], dict[str, str]]:
    """The card that a file carries, and all of its metadata."""
    told = onnxruntime.InferenceSession(path).get_modelmeta().custom_metadata_map
    return json.loads(told["card"]), told


def test_export_writes_one_file_and_a_folder(model: Path, treehead: Run, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert treehead("export", model, "--out", "made/colours.onnx") == 0
    said = capsys.readouterr()
    assert said.out == "made/colours.onnx\n"
    assert "from pixels: 30 images, probabilities within" in said.err
    made = Path("made")
    assert sorted(str(path.relative_to(made)) for path in made.rglob("*.*")) == [
        *("colours.onnx", "colours/README.md", "colours/model.onnx", "colours/predict.py"),
    ]
    card, told = exported_card(made / "colours.onnx")
    assert json.loads(told["classes"]) == ["blue", "green", "red"]
    assert told["input"] == "pixels"
    assert told["licenses"].startswith("resnet18, random weights")
    assert card["checks"]["features"]["off"] <= 1e-4
    assert card["checks"]["pixels"] == {"images": 30, "off": card["checks"]["pixels"]["off"], "same": 1.0}
    assert str(Path.cwd()) not in json.dumps(told)
    readme = (made / "colours/README.md").read_text()
    assert "## Bias, Risks, and Limitations" in readme
    assert len((made / "colours/predict.py").read_text().splitlines()) < 60


def test_several_nodes_of_several_networks(treehead: Run, split_photos: Path) -> None:
    both = ("--backbone", "resnet18,squeezenet1_1", "--node", "layer2+layer3,", "--image-size", "32", "--no-select")
    assert treehead("xgb", split_photos, *both, *EXACT, "--xgb.rounds", "8", "--xgb.columns", "100") == 0
    assert treehead("export", next(Path("artifacts").glob("models/*/xgb-*/xgb.joblib"))) == 0
    card, _ = exported_card(Path("model.onnx"))
    assert [trunk["node"] for trunk in card["trunks"]][:2] == ["layer2", "layer3"]


def test_any_number_of_images_at_once(model: Path, treehead: Run, split_photos: Path) -> None:
    assert treehead("export", model) == 0
    running = onnxruntime.InferenceSession("model.onnx")
    files = sorted((split_photos / "test").rglob("*.png"))
    images = np.stack([np.asarray(Image.open(path)) for path in files])
    together: Any = running.run([PROBABILITIES], {IMAGES: images})[0]
    apart: list[Any] = [running.run([PROBABILITIES], {IMAGES: image[None]})[0] for image in images]
    assert together.dtype == np.float32
    assert together == pytest.approx(np.concatenate(apart), abs=1e-6)


ALONE = """
import runpy, sys
ALLOWED = {"onnxruntime", "numpy", "PIL", "google", "flatbuffers", "packaging", "coloredlogs", "humanfriendly"}
OURS = {"features", "models", "pipeline", "treehead", "torch", "torchvision", "sklearn", "xgboost", "scipy", "pandas"}

class Refuses:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in OURS or "site-packages" in str(path) and name.partition(".")[0] not in ALLOWED:
            raise ImportError(f"{name} is not here")

sys.meta_path.insert(0, Refuses())
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.mark.parametrize("given", ["pixels", "prepared"])
def test_predict_py_needs_nothing_of_this_project(
    given: str, model: Path, treehead: Run, split_photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert treehead("export", model, "--input", given) == 0
    files = sorted(map(str, (split_photos / "test").rglob("*.png")))
    capsys.readouterr()
    assert treehead("predict", model, *files, "--csv") == 0
    expected = [line.split(",")[:2] for line in capsys.readouterr().out.splitlines()[1:]]
    said = alone("-I", "-c", ALONE, "model/predict.py", *files)
    assert [line.split("\t")[:2] for line in said.splitlines()] == expected


@pytest.mark.parametrize("kind", ["16 bits", "transparent", "palette", "turned", "CMYK", "1 bit"])
def test_predict_py_takes_pixels_as_treehead_does(kind: str, tmp_path: Path) -> None:
    colours = np.random.default_rng(0).integers(0, 256, (9, 5, 4), dtype=np.uint8)
    image, path = Image.fromarray(colours[..., :3]), tmp_path / "image.png"
    more: dict[str, Any] = {}
    if kind == "16 bits":
        image = Image.fromarray(colours[..., 0].astype(np.uint16) * 257)
    elif kind == "turned":
        more["exif"] = Image.Exif()
        more["exif"][0x112] = 6
    elif kind == "CMYK":
        image, path = image.convert("CMYK"), tmp_path / "image.jpg"
    elif kind == "palette":
        image, more["transparency"] = image.convert("P"), 0
    else:
        image = Image.fromarray(colours) if kind == "transparent" else image.convert("1")
    image.save(path, **more)
    expected = decode(path.read_bytes())
    assert np.array_equal(np.asarray(standalone.read(str(path))), np.broadcast_to(expected, (*expected.shape[:2], 3)))


def test_predict_py_says_of_each_image_what_is_wrong_and_goes_on(
    model: Path, treehead: Run, split_photos: Path
) -> None:
    assert treehead("export", model) == 0
    Path("text.jpg").write_text("no image")
    Image.fromarray(np.zeros((9, 9), np.float32)).save("floats.tif")
    files = ["none.jpg", "text.jpg", "floats.tif", str(next((split_photos / "test/red").iterdir()))]
    done = subprocess.run([sys.executable, "model/predict.py", *files], check=False, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stdout.startswith(f"{files[3]}\tred\tred ")
    said = done.stderr.splitlines()
    assert [line.partition(" could not be read: ")[0] for line in said] == files[:3]
    assert said[2].endswith("floating-point numbers: save the image with 8 or 16 bits")


def alone(*arguments: str) -> str:
    """What a Python of its own prints, which leaves nothing in the folder that is its home and its cache."""
    Path("home").mkdir()
    home = {name: str(Path("home").absolute()) for name in ("HOME", "XDG_CACHE_HOME")}
    settings = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"} | home
    command = [sys.executable, *arguments]
    said = subprocess.run(command, check=True, capture_output=True, text=True, env=settings).stdout
    assert not list(Path("home").rglob("*"))
    return said


def test_onnx_runtime_tells_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = f"import sys; sys.path.insert(0, {str(ROOT)!r}); "
    assert alone("-c", f"{path}import features, onnxruntime; print(onnxruntime.__version__)")


@pytest.mark.parametrize("defect", ["a round short", "classes swapped"])
def test_nothing_is_written_of_an_export_that_is_wrong(
    defect: str,
    model: Path,
    treehead: Run,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(heads, "ensemble", DEFECTS[defect](heads.ensemble))
    assert "not exported: by features of 30 images" in refused(treehead, capsys, "export", model, "--out", "m.onnx")
    assert not list(Path().glob("m*"))


def test_nothing_is_written_where_pixels_are_taken_otherwise(
    model: Path, treehead: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("features.trunk.exported._normalised", lambda images, *_: images.permute(0, 3, 1, 2).float())
    line = refused(treehead, capsys, "export", model, "--out", "m.onnx")
    assert "not exported: by pixels of 30 images" in line
    assert not list(Path().glob("m*"))


def test_a_table_in_less_precision_than_the_file(
    split_photos: Path, treehead: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    assert treehead("xgb", split_photos, *SMALL, "--precision", "bf16") == 0
    model = next(Path("artifacts").glob("models/*/xgb-*/xgb.joblib"))
    assert treehead("export", model) == 0
    card, _ = exported_card(Path("model.onnx"))
    assert card["checks"]["pixels"]["off"] < 1e-2
    assert card["checks"]["pixels, where it takes features in bf16"]["same"] == 1.0
    assert "from pixels, where it takes features in bf16: 30 images" in capsys.readouterr().err


def test_a_table_in_less_precision_that_gives_other_classes(
    split_photos: Path, treehead: Run, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def others(keys: Any, said: Any, theirs: Any, *, by: str, **more: Any) -> Checked:  # colours are easily told apart
        return agreement(keys, said, theirs[:, ::-1] if "bf16" in by else theirs, by=by, **more)

    assert treehead("xgb", split_photos, *SMALL, "--precision", "bf16") == 0
    monkeypatch.setattr("pipeline.stages.export.agreement", others)
    model = next(Path("artifacts").glob("models/*/xgb-*/xgb.joblib"))
    line = refused(treehead, capsys, "export", model)
    assert "not exported: by features in bf16 of 30 images" in line
    assert line.endswith("make its table with --precision fp32 --decoder pillow, as the file computes, and train again")
    assert not list(Path().rglob("*.onnx"))


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_less_precision_says_what_it_costs(
    precision: str, model: Path, treehead: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    assert treehead("export", model, "--out", "whole.onnx") == 0
    assert treehead("export", model, "--precision", precision) == 0
    assert f"in {precision}: 30 images, probabilities within" in capsys.readouterr().err
    card, _ = exported_card(Path("model.onnx"))
    assert {"test_accuracy", "test_accuracy_fp32", "moved"} <= card.keys()
    assert card["precision"] == precision
    assert Path("model.onnx").stat().st_size < 0.6 * Path("whole.onnx").stat().st_size


def test_images_that_have_moved(
    model: Path, treehead: Run, split_photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    moved = split_photos.rename(split_photos.with_name("moved"))
    line = refused(treehead, capsys, "export", model)
    assert "pixels could not be checked, as the images are no longer found" in line
    assert line.endswith("give --dataset")
    assert treehead("export", model, "--dataset", moved) == 0
    (moved / "test/red/200.png").unlink()
    line = refused(treehead, capsys, "export", model, "--dataset", moved)
    assert "lacks 1 images of" in line
    assert "(first: test/red/200.png)" in line


def test_a_classifier_that_was_carried_off(model: Path, treehead: Run, capsys: pytest.CaptureFixture[str]) -> None:
    away = model.parent.rename("away")
    assert "export it where it was trained" in refused(treehead, capsys, "export", away / model.name)
    with pytest.raises(ExportError, match="learnt from is not in /features"):
        table_of(Path("/xgb.joblib"), read_card(away / "xgb.json"))


def test_a_file_that_is_no_onnx(model: Path, treehead: Run, capsys: pytest.CaptureFixture[str]) -> None:
    line = refused(treehead, capsys, "export", model, "--out", "model.pt")
    assert line == "treehead: --out model.pt came: expected a file of this machine that ends in .onnx"


@pytest.mark.parametrize(
    ("there", "line"),
    [
        ("made/m.onnx/", "made/m.onnx and made/m are to be a file and a folder, and are not: choose another --out"),
        ("made/m", "made/m.onnx and made/m are to be a file and a folder, and are not: choose another --out"),
        ("made", "cannot write to made (File exists): choose another --out"),
    ],
)
def test_what_cannot_be_written_is_known_before_images_are_looked_at(
    there: str, line: str, treehead: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    Path(there).parent.mkdir(exist_ok=True)
    Path(there).mkdir() if there.endswith("/") else Path(there).touch()
    assert refused(treehead, capsys, "export", "none.joblib", "--out", "made/m.onnx") == f"treehead: {line}"


def test_where_the_disk_is_full_an_earlier_export_stays_whole(
    model: Path, treehead: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert treehead("export", model, "--out", "m.onnx") == 0
    before = {path: path.read_bytes() for path in Path().glob("m*/*")}
    (Path("m") / ".unfinished-of-one-that-was-killed").touch()

    def full() -> str:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("pipeline.export.written._program", full)
    assert treehead("export", model, "--precision", "fp16", "--out", "m.onnx") == 2
    assert "No space left on device" in capsys.readouterr().err.splitlines()[-1]
    assert {path: path.read_bytes() for path in Path().glob("m*/*")} == before
    assert sorted(map(str, Path().glob("m*"))) == ["m", "m.onnx"]


def test_prepared_images_must_suit_all_networks() -> None:
    trunk = make_tiny_trunk()
    head = fitted("linear", of_unlike_classes())
    with pytest.raises(TrunkError, match=r"want images of 16 px of 16 px, bicubic and 16 px of 16 px, bilinear"):
        export_classifier(head, [trunk, trunk_like(trunk, interpolation="bicubic")], prepared=True)


@pytest.mark.slow
def test_a_network_that_was_retrained(treehead: Run, split_photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small = ("--backbone", "resnet18", "--image-size", "32", "--epochs", "1", "--batch-images", "8")
    assert treehead("finetune", split_photos, *small, "--precision", "bf16") == 0
    network = next(Path("artifacts").glob("models/*/network-*/network.safetensors"))
    line = refused(treehead, capsys, "export", network, "--weights", "imagenet")
    assert line.endswith("--weights imagenet came with a retrained network, which has its own: leave it")
    assert treehead("export", network) == 0
    card, _ = exported_card(Path("model.onnx"))
    assert card["head"] == "network"
    assert card["trunks"][0]["precision"] == "fp32"  # it predicts so wherever and however it was trained
    assert card["checks"]["pixels"]["images"] == 18
