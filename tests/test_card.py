from __future__ import annotations

import json
import os
import pickle
import pickletools
import subprocess
import sys
import venv
from importlib.metadata import distribution, requires
from pathlib import Path

import joblib
import numpy as np
import pytest
import skops.io
import torch
import xgboost
from packaging.requirements import Requirement

from features.storage import digest
from models.card import classifier_folder, load_classifier, read_card, save_classifier
from models.errors import ClassifierError
from models.heads.registry import HEADS
from models.networks.classifier import NetworkClassifier
from models.networks.settings import FORMER_NETWORK
from tests.conftest import CPU
from tests.test_heads import fitted, toy_table


def saved(name: str, folder: Path) -> Path:
    table = toy_table()
    return save_classifier(fitted(name, table), table, folder, weights="random", validation={"accuracy": 1.0})


@pytest.mark.parametrize("name", list(HEADS))
def test_a_classifier_comes_back_as_it_was(name: str, tmp_path: Path) -> None:
    table = toy_table()
    x = table.read("test").x
    expected = fitted(name, table).predict_proba(x)
    head, card = load_classifier(saved(name, tmp_path))
    assert np.array_equal(head.predict_proba(x), expected)
    assert head.classes_ == card.classes == ("a", "b", "c")
    assert card.table_identity == table.identity
    assert card.trunks == table.trunks
    assert not card.transfer_learning
    assert card.bytes == (tmp_path / card.main_file).stat().st_size


@pytest.mark.parametrize("name", list(HEADS))
def test_a_pickle_names_no_class_of_this_project(name: str, tmp_path: Path) -> None:
    content = pickle.dumps(joblib.load(saved(name, tmp_path)))  # joblib's own stream has arrays between its opcodes
    strings = [argument for _, argument, _ in pickletools.genops(content) if isinstance(argument, str)]
    modules = {text.split(".")[0].split(" ")[0] for text in strings}
    assert "sklearn" in modules
    assert not modules & {"features", "models", "pipeline", "torch", "pandas"}


def test_ubj_holds_the_same_trees(tmp_path: Path) -> None:
    path = saved("xgb", tmp_path)
    pipeline = joblib.load(path)
    booster = xgboost.Booster(model_file=path.with_suffix(".ubj"))
    x = toy_table().read("test").x
    columns = pipeline.named_steps["reduce"].transform(x)
    assert booster.predict(xgboost.DMatrix(columns)) == pytest.approx(pipeline.predict_proba(x), abs=1e-6)


def test_trees_predict_on_the_cpu_wherever_they_are_loaded(tmp_path: Path) -> None:
    trees = joblib.load(saved("xgb", tmp_path)).named_steps["xgb"]
    assert trees.get_params()["device"] == "cpu"
    assert json.loads(trees.get_booster().save_config())["learner"]["generic_param"]["device"] == "cpu"


def test_every_setting_has_its_own_folder() -> None:
    table, other = toy_table(), toy_table(validation=(0, 2))
    other.tables[0].identity = "other"
    names = [classifier_folder(fitted(name, table), table) for name in HEADS]
    names += [classifier_folder(fitted("xgb", table, seed=1), table), classifier_folder(fitted("xgb", table), other)]
    assert len(set(names)) == len(names)
    assert classifier_folder(fitted("xgb", table), table) == names[0]


@pytest.mark.parametrize("name", list(HEADS))
@pytest.mark.parametrize("damage", ["truncated", "tampered", "missing"])
def test_a_damaged_classifier_is_not_read(name: str, damage: str, tmp_path: Path) -> None:
    path = saved(name, tmp_path)
    content = path.read_bytes()
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(content[:-10] if damage == "truncated" else content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(ClassifierError, match=r"no classifier at|is not the file its card names"):
        load_classifier(path)


@pytest.mark.parametrize("damage", ["truncated", "missing"])
def test_what_predictions_are_made_from_must_be_whole(damage: str, tmp_path: Path) -> None:
    path = saved("linear", tmp_path)
    data = path.with_suffix(".safetensors")
    content = data.read_bytes()
    data.unlink()
    if damage == "truncated":
        data.write_bytes(content[:-10])
    with pytest.raises(
        ClassifierError, match=r"linear.safetensors (is not the file its card|cannot be read \(No such)"
    ):
        load_classifier(path)


@pytest.mark.parametrize("suffix", [".joblib", ".safetensors", ".json"])
def test_each_of_its_files_stands_for_the_classifier(suffix: str, tmp_path: Path) -> None:
    path, table = saved("linear", tmp_path), toy_table()
    if suffix != ".joblib":
        path.unlink()
    head, _ = load_classifier(path.with_suffix(suffix))
    assert np.array_equal(
        head.predict_proba(table.read("test").x), fitted("linear", table).predict_proba(table.read("test").x)
    )


def test_a_changed_card_is_not_read(tmp_path: Path) -> None:
    path = saved("xgb", tmp_path)
    card = path.with_suffix(".json")
    text = card.read_text()
    card.write_text(text.replace('"a",', '"z",'))
    with pytest.raises(ClassifierError, match=r"xgb.json is damaged \(it has been changed since it was written"):
        load_classifier(path)
    card.write_text(text[:-30])
    with pytest.raises(ClassifierError, match=r"xgb.json is damaged \("):
        load_classifier(path)
    card.unlink()
    with pytest.raises(ClassifierError, match=r"no card at .*xgb.json"):
        load_classifier(path)


def resealed(card: Path, **changes: object) -> None:
    """Change a card as a release that writes it otherwise would."""
    content = {name: value for name, value in json.loads(card.read_text()).items() if name != "card_sha256"} | changes
    card.write_text(json.dumps({**content, "card_sha256": digest(content)}))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": 99}, r"is of format 99, expected 5: train it again"),
        ({"classes": "ab"}, r"is no card of format 5 \(classes: .*\): train it again"),
        ({"fit_seconds": "1"}, r"is no card of format 5 \(fit_seconds: .*number\)"),
        ({"colour": "red"}, r"is no card of format 5 \(colour: .*\)"),
        ({"head": "forest"}, r"a card of the head 'forest' came, expected one of xgb, linear, .*: use the release"),
    ],
)
def test_a_card_of_another_release(changes: dict[str, object], message: str, tmp_path: Path) -> None:
    path = saved("xgb", tmp_path)
    resealed(path.with_suffix(".json"), **changes)
    with pytest.raises(ClassifierError, match=message):
        load_classifier(path)


def test_a_network_that_was_saved_under_its_former_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network = NetworkClassifier(seed=0, device=CPU, settings={"backbone": "tiny"})
    network.state = {"head.weight": torch.ones(3, 2)}
    with monkeypatch.context() as before:
        before.setattr(NetworkClassifier, "name", FORMER_NETWORK)
        path = save_classifier(network, toy_table(), tmp_path, weights="random", validation={"accuracy": 0.5})
    assert path.name == "finetune.safetensors"
    found, card = load_classifier(path)
    assert isinstance(found, NetworkClassifier)
    assert torch.equal(found.state["head.weight"], torch.ones(3, 2))
    assert found.settings == card.parameters == {"backbone": "tiny", "seed": 0}


def test_the_ubj_is_not_what_predictions_are_made_from(tmp_path: Path) -> None:
    path = saved("xgb", tmp_path)
    with pytest.raises(ClassifierError, match=r"no classifier at .*xgb.ubj: expected xgb.joblib"):
        load_classifier(path.with_suffix(".ubj"))


def test_saving_says_which_device_trained(tmp_path: Path) -> None:
    assert load_classifier(saved("mlp", tmp_path))[1].device == str(CPU)


SAVES = """
import pathlib, sys
from models.card import load_classifier, load_unseen, save_classifier
from models.heads.registry import make_head
from tests.conftest import CPU
from tests.test_card import saved
from tests.test_heads import fit, toy_table

folder, *names = sys.argv[1:]
heads = {}
for name in names:
    path = saved(name, pathlib.Path(folder))
    heads[name], card = load_classifier(path)
    heads[name].unseen_ = load_unseen(path, card)
if names[-1] == "hybrid":  # as it is where its parts are found trained
    table, hybrid = toy_table(), make_head("hybrid", seed=0, device=CPU)
    hybrid.take([heads[part.name] for part in hybrid.parts])
    save_classifier(fit(hybrid, table), table, pathlib.Path(folder), weights="random", validation={"accuracy": 1.0})
"""


@pytest.mark.slow
def test_the_same_training_writes_the_same_bytes_in_any_order(tmp_path: Path) -> None:
    for run, names in {"1": list(HEADS), "2": list(HEADS)[::-1]}.items():
        environment = {**os.environ, "PYTHONHASHSEED": run, "PYTHONPATH": str(Path(__file__).parent.parent)}
        subprocess.run([sys.executable, "-c", SAVES, tmp_path / run, *names], env=environment, check=True)
    files = [path for path in sorted((tmp_path / "1").iterdir()) if path.suffix != ".json"]
    kinds = ("joblib", "safetensors", "parquet", "skops")
    assert {path.name for path in files} == {*(f"{name}.{kind}" for name in HEADS for kind in kinds), "xgb.ubj"}
    for path in files:
        assert path.read_bytes() == (tmp_path / "2" / path.name).read_bytes(), path.name


def needs(*names: str) -> set[str]:
    """The distributions that `names` need here, themselves included."""
    found: set[str] = set()
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            wanted = map(Requirement, requires(name) or [])
            waiting += [w.name for w in wanted if w.marker is None or w.marker.evaluate({"extra": ""})]
    return found


@pytest.mark.parametrize("name", list(HEADS))
def test_skops_holds_the_same_model(name: str, tmp_path: Path) -> None:
    path = saved(name, tmp_path)
    trusted = read_card(path.with_suffix(".json")).trusted
    assert all(each.startswith(("sklearn.", "xgboost.")) for each in trusted)
    model = skops.io.load(path.with_suffix(".skops"), trusted=list(trusted))
    x = toy_table().read("test").x
    assert np.array_equal(model.predict_proba(x), joblib.load(path).predict_proba(x))


def test_joblib_load_works_where_only_xgboost_scikit_learn_and_joblib_are(tmp_path: Path) -> None:
    path = saved("xgb", tmp_path / "model")
    x = toy_table().read("test").x
    np.save(tmp_path / "x.npy", x)
    venv.create(tmp_path / "bare", symlinks=True)
    site = next((tmp_path / "bare" / "lib").glob("python3*/site-packages"))
    for name in needs("xgboost", "scikit-learn", "joblib") - {name for name in needs("xgboost") if "nccl" in name}:
        for file in distribution(name).files or []:
            top = file.parts[0]
            if top != ".." and not (site / top).exists():
                (site / top).symlink_to(str(distribution(name).locate_file(top)))
    program = (
        "import sys, importlib.util, joblib, numpy as np\n"
        "assert not any(map(importlib.util.find_spec, ['torch', 'pandas', 'features', 'models', 'pipeline']))\n"
        "np.save('p.npy', joblib.load(sys.argv[1]).predict_proba(np.load('x.npy')))\n"
    )
    python = tmp_path / "bare" / "bin" / Path(sys.executable).name
    subprocess.run([python, "-I", "-c", program, path], cwd=tmp_path, check=True)
    assert np.load(tmp_path / "p.npy") == pytest.approx(load_classifier(path)[0].predict_proba(x), abs=1e-6)
