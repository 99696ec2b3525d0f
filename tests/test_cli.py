"""The command line from end to end, on small images and a small network."""

from __future__ import annotations

import re
import resource
import shutil
import tomllib
from pathlib import Path
from typing import Any

import pytest
import torch

from features import loop
from features.table import shard
from models.heads.registry import HEADS
from pipeline import arguments
from pipeline.stages import opened
from tests.conftest import SMALL, Run, refused, write_images


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--dataset", "absent"), "unknown data set 'absent', no file or folder here: expected a folder"),
        (("--backbone", "vgg99"), "unknown backbone 'vgg99': expected timm:NAME, "),
        (("--node", "nowhere"), "unknown node 'nowhere' of alexnet: expected one of features.0"),
        (("--weights", "absent.pth"), "unknown weights 'absent.pth'"),
        (("--device", "tpu"), "unknown device 'tpu': expected auto, cpu, cuda or cuda:N"),
        (("--max-bad", "2"), "--max-bad 2.0 is no share"),
        (("--image-size", "0"), "--image-size 0 is out of range: expected 8 to 4096"),
        (("--train-limit", "many"), "many"),
        (("--seed", "-1"), "--seed -1 is out of range"),
        (("--no-such-option", "1"), "--no-such-option"),
    ],
)
def test_wrong_settings(
    arguments: tuple[str, ...], message: str, treehead: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    assert message in refused(treehead, capsys, "features", *arguments)
    assert not list(Path().glob("artifacts/*/*"))


def test_options_of_the_last_release_work_and_say_their_new_names(
    model: Path, treehead: Run, split_photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    assert treehead("xgb", "--dataset", split_photos, *SMALL[:4], "--rounds=8") == 0
    output = capsys.readouterr()
    assert output.err.startswith("! --rounds is now --xgb.rounds: the old name goes with the next release\n")
    assert output.out == f"{model}\n"  # found as --xgb.rounds has made it
    assert "--xgb.max-bin 1 is out of range" in refused(treehead, capsys, "compare", "--max-bin", 1)
    assert "exact" in refused(treehead, capsys, "xgb", "--tree-method", "exact")


def test_old_options_by_command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(arguments.RENAMED, "go", {"--old.least": "--new.min", "--old.": "--new."})
    assert arguments.as_now(["go", "--old.least", "--old.x=--old.y", "--older", "-1"]) == [
        "go",
        "--new.min",
        "--new.x=--old.y",
        "--older",
        "-1",
    ]
    assert [line.split(":")[0] for line in capsys.readouterr().err.splitlines()] == [
        "! --old.least is now --new.min",
        "! --old.x is now --new.x",
    ]
    assert arguments.as_now(["other", "--old.least"]) == ["other", "--old.least"]
    assert arguments.as_now([]) == []


def test_every_option_of_trees_in_the_last_release_is_known(treehead: Run, capsys: pytest.CaptureFixture[str]) -> None:
    old = ("columns", "discriminant-columns", "rounds", "patience", "learning-rate", "max-depth", "max-bin")
    for command in ("xgb", "compare"):
        for name in (*old, "column-share", "tree-method"):
            assert f"--xgb.{name}" in refused(treehead, capsys, command, f"--{name}", "?")
        assert arguments.as_now([command, "--external-memory"]) == [command, "--xgb.external-memory"]


def test_help_has_a_group_for_each_head(treehead: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert treehead("compare", "--help") == 0
    text = capsys.readouterr().out
    groups = re.findall(r"^╭─ (\w+) ─", text, re.MULTILINE)
    assert groups == ["Images", "Network", "Heads", *HEADS, "network", "Run"]
    assert "--network.epochs" in text
    assert all(f"│ {what} " in text for what in ("Boosted trees.", "The network itself, retrained."))
    assert "--empty-" not in text.replace(".", "-")


def test_the_data_set_is_the_first_word_or_an_option(
    treehead: Run, split_photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = []
    for command in ((split_photos,), ("--dataset", split_photos), ("--quiet", split_photos)):
        assert treehead("features", *command, *SMALL[:4]) == 0
        shown.append(capsys.readouterr().out)
    assert len(set(shown)) == 1
    for name in ("features", "xgb", "compare", "finetune", "pretrain"):
        line = refused(treehead, capsys, name, split_photos, "--dataset", "digits")
        assert "split photos' came, and nothing takes it: give one data set, by its place or as --dataset" in line


def test_more_and_less_is_said(treehead: Run, split_photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ("compare", split_photos, *SMALL, "--heads", "linear", "--weights", "random")
    said = {}
    for option in ("-q", "-v", "--device=cpu"):
        assert treehead(*command, option, "--out", option.strip("-")) == 0
        said[option] = capsys.readouterr().err.splitlines()
    assert said["-q"] == [
        "! random weights: resnet18 has learnt nothing, so this is no transfer learning (see --weights)",
        "! 18 test images are few: an accuracy may be off by ten points, so add images",
    ]
    assert all(len(line) <= 80 for line in said["--device=cpu"] if not line.startswith("!"))
    short = [line for line in said["--device=cpu"] if not line.startswith("layout: ")]
    assert not [line for line in short if "shrinkage" in line or "penalties" in line or "/" in line]
    assert any("penalties" in line for line in said["-v"])
    assert any("linear.joblib" in line for line in said["-v"])
    assert len(said["-v"]) > len(said["--device=cpu"]) > len(said["-q"])
    assert "--quiet and --verbose were both given: choose one" in refused(treehead, capsys, *command, "-q", "-v")


def test_completion_is_written_for_the_shell(treehead: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))  # its .bashrc is told to load the script
    assert treehead("--install-completion", "--shell", "bash", "--output", tmp_path / "treehead.sh") == 0
    script = (tmp_path / "treehead.sh").read_text()
    assert "complete -F" in script
    assert all(word in script for word in ("compare", "--weights", "--install-completion"))
    assert "treehead.sh" in (tmp_path / ".bashrc").read_text()


def test_home_is_found_behind_an_equals_sign(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    came = ["features", "~", "--out=~/x", "--weights=a=~", "--out", "~/x"]
    assert arguments.as_now(came) == ["features", "~", "--out=/home/me/x", "--weights=a=~", "--out", "~/x"]


def test_a_head_that_there_is_not(treehead: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert "unknown head 'forest': expected some of xgb" in refused(treehead, capsys, "compare", "--heads", "forest")


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is here")
@pytest.mark.parametrize("option", [("--device", "cuda"), ("--xgb.tree-method", "gpu_hist")])
def test_a_gpu_that_is_not_there(
    option: tuple[str, str], treehead: Run, split_photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "but 0 CUDA GPUs were found here" in refused(
        treehead, capsys, "xgb", "--dataset", split_photos, *SMALL, *option
    )
    assert not list(Path().glob("artifacts/models/*"))


def test_a_folder_without_images(treehead: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "photos").mkdir()
    assert "photos has no class folders: expected a folder of images" in refused(
        treehead, capsys, "features", "--dataset", "photos"
    )


def test_a_manifest_that_is_missing_or_cut_short(
    treehead: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "unknown data set 'list.csv'" in refused(treehead, capsys, "features", "--dataset", "list.csv")
    (tmp_path / "list.csv").write_text("path,label\na.png,x\nb.pn")
    assert "has no label in 1 of 2 rows" in refused(treehead, capsys, "features", "--dataset", "list.csv")


@pytest.mark.parametrize("content", [b"no image", b""])
def test_images_that_cannot_be_read(
    content: bytes, treehead: Run, split_photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (split_photos / "train/red/bad.png").write_bytes(content)
    line = refused(treehead, capsys, "features", "--dataset", split_photos, *SMALL[:4])
    assert "1 of 67 images could not be read, more than --max-bad 0.01 allows (first: train/red/bad.png" in line
    assert treehead("features", "--dataset", split_photos, *SMALL[:4], "--max-bad", 0.1) == 0
    assert "1 images could not be read and are not in the table" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["xgb.joblib", "xgb.json"])
def test_a_tampered_classifier(
    name: str, model: Path, treehead: Run, split_photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = model.with_name(name)
    path.write_bytes(path.read_bytes()[:-20] + b"x" * 20)
    image = split_photos / "test/red/200.png"
    assert re.search("differs|damaged", refused(treehead, capsys, "predict", model, image))


def test_a_table_that_was_cut_short_or_is_another(
    compared: Path, treehead: Run, split_photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = next(compared.glob("features/*/manifest.json"))
    text = manifest.read_text()
    command = ("features", "--dataset", split_photos, *SMALL[:4])
    manifest.write_text(text[:-50])
    assert "manifest.json is cut short or damaged (Unterminated" in refused(treehead, capsys, *command)
    manifest.write_text(text.replace('"seed": 0', '"seed": 5'))
    assert "it has been changed since it was written" in refused(treehead, capsys, *command)
    manifest.unlink()
    assert treehead(*command) == 0
    assert manifest.read_text() == text


def test_a_table_with_a_damaged_shard_or_no_ledger_is_mended(
    compared: Path, treehead: Run, split_photos: Path, caplog: pytest.LogCaptureFixture
) -> None:
    command = ("compare", "--dataset", split_photos, *SMALL, "--seed", 0, "--heads", "linear", "--max-bad", 0.5)
    shutil.rmtree(compared / "models")
    shard = next(compared.glob("features/*/part-00000.parquet"))
    content = shard.read_bytes()
    shard.write_bytes(bytes(len(content)))
    assert treehead(*command) == 0
    assert "part-00000.parquet is damaged" in caplog.text
    assert shard.read_bytes() == content
    shard.with_name("errors.parquet").unlink()
    assert treehead(*command) == 0
    assert shard.with_name("errors.parquet").exists()


def test_names_with_brackets_are_shown_as_they_are(
    model: Path, treehead: Run, split_photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image = split_photos / "a[b]c[/d].png".replace("/", "-")
    shutil.copy(split_photos / "test/red/200.png", image)
    capsys.readouterr()
    assert treehead("predict", model, image) == 0
    assert "a[b]c[-d].png" in "".join(capsys.readouterr().out.split())


def test_class_names_that_look_like_formulas(treehead: Run, split_photos: Path) -> None:
    for split in split_photos.iterdir():
        (split / "red").rename(split / r"$\foo$")
        (split / "blue").rename(split / ("x" * 200))
    assert treehead("compare", "--dataset", split_photos, *SMALL, "--heads", "linear") == 0


def test_too_few_images_to_split(treehead: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for colour in ("red", "blue"):
        write_images(tmp_path / "few" / colour, colour, 1)
    assert "has 2 training images, too few to leave any for" in refused(
        treehead, capsys, "features", "--dataset", "few", *SMALL[:4]
    )


def test_an_output_folder_that_cannot_be_written(
    treehead: Run, split_photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("in the way")
    line = refused(treehead, capsys, "features", "--dataset", split_photos, "--out", "file/out")
    assert "cannot write to file/out (Not a directory): choose another --out" in line


def test_a_full_disk_leaves_nothing_half_written(
    treehead: Run, split_photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, before[1]))
    try:
        line = refused(treehead, capsys, "features", "--dataset", split_photos, *SMALL[:4])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert "cannot write" in line
    assert "part-00000.parquet" in line
    assert {path.name for path in Path("artifacts").rglob("*") if path.is_file()} <= {"timing.json", ".treehead"}
    assert treehead("features", "--dataset", split_photos, *SMALL[:4]) == 0


def test_interrupting_keeps_finished_shards(
    treehead: Run, split_photos: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shard, "MOST_IMAGES", 20)
    whole = loop._features
    calls: list[int] = []

    def interrupt_later(*arguments: Any) -> Any:
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return whole(*arguments)

    monkeypatch.setattr(loop, "_features", interrupt_later)
    command = ("features", "--dataset", split_photos, *SMALL[:4])
    assert treehead(*command) == 130
    assert "interrupted: what was finished is kept" in capsys.readouterr().err
    left = [path.name for path in Path("artifacts").rglob("*") if path.is_file()]
    assert sorted(left) == [".treehead", "part-00000.parquet", "timing.json"]
    assert treehead(*command) == 0
    assert "20 of them reused" in capsys.readouterr().err


def test_a_bug_is_not_hidden(treehead: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(opened, "open_source", fail)
    with pytest.raises(ZeroDivisionError):
        treehead("features")


@pytest.mark.parametrize(
    "command",
    [(), ("features",), ("xgb",), ("compare",), ("predict",), ("finetune",), ("pretrain",), ("bench", "features")],
)
def test_help_teaches(command: tuple[str, ...], treehead: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert treehead(*command, "--help") == 0
    text = capsys.readouterr().out
    assert "Usage: treehead" in text
    assert len(text.splitlines()) > 10


def test_the_public_face_and_three_packages_are_all_that_is_installed() -> None:
    with (Path(__file__).parent.parent / "pyproject.toml").open("rb") as file:
        include = tomllib.load(file)["tool"]["setuptools"]["packages"]["find"]["include"]
    assert include == ["treehead*", "features*", "models*", "pipeline*"]


def test_a_folder_of_photographs_may_be_where_one_stands(
    treehead: Run, photos: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(photos)
    for _ in range(2):
        assert treehead("features", ".", *SMALL[:4]) == 0
    assert "layout: 3 classes" in capsys.readouterr().err
    assert "--out . is the folder of images: choose another" in refused(treehead, capsys, "features", ".", "--out", ".")
