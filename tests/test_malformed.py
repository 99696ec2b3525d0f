"""Classifiers whose files are damaged, or were made by someone who means harm: one line, and nobody's pickle is run."""

from __future__ import annotations

import json
import os
import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
import safetensors.numpy

from features.errors import FeaturesError
from features.storage import digest, file_sha256
from models.card import load_classifier, save_classifier
from models.errors import ClassifierError, ModelsError
from models.heads.registry import HEADS, HeadSettings
from models.heads.settings import MlpSettings, XgbSettings
from tests.conftest import ROOT, Run, refused
from tests.test_heads import fitted, toy_table

SMALL = HeadSettings(mlp=MlpSettings(hidden=(8, 8), epochs=2), xgb=XgbSettings(rounds=3))


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of a classifier of each head."""
    folder, table = tmp_path_factory.mktemp("kept"), toy_table()
    for name in HEADS:
        save_classifier(fitted(name, table, SMALL), table, folder, weights="random", validation={"accuracy": 1.0})
    return folder


@pytest.fixture
def copied(kept: Path, tmp_path: Path) -> Path:
    for path in kept.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    return tmp_path


def seal(card: Path, content: dict[str, Any]) -> None:
    """Write a card that agrees with itself and with the files beside it, as whoever replaces them all would."""
    for name in content.get("files", {}):
        if (path := card.with_name(name)).is_file():
            content["files"][name] = {"sha256": file_sha256(path), "bytes": path.stat().st_size}
    content.pop("card_sha256", None)
    card.write_text(json.dumps({**content, "card_sha256": digest(content)}))


def resealed(card: Path) -> None:
    seal(card, json.loads(card.read_text()))


class Payload:
    """Makes a folder where it is unpickled."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, (str(self.folder),)


@pytest.mark.parametrize("name", list(HEADS))
def test_a_pickle_that_was_planted_with_its_card_is_never_loaded(name: str, copied: Path, tmp_path: Path) -> None:
    joblib.dump(Payload(tmp_path / "taken over"), copied / f"{name}.joblib")
    resealed(copied / f"{name}.json")
    x = toy_table().read("test").x
    assert load_classifier(copied / f"{name}.joblib")[0].predict_proba(x).shape == (90, 3)
    assert not (tmp_path / "taken over").exists()
    joblib.load(copied / f"{name}.joblib")
    assert (tmp_path / "taken over").exists()


def test_no_code_of_ours_loads_pickles() -> None:
    loads = re.compile(r"joblib\.load\(|pickle\.loads?\(|(?<!\.)torch\.load\((?!.*weights_only=True)|allow_pickle=True")
    for package in ("features", "models", "pipeline", "treehead"):
        for path in (ROOT / package).rglob("*.py"):
            assert not loads.search(path.read_text(encoding="utf-8")), path


JUNK: list[Any] = [None, True, -1, 0.5, 10**400, float("nan"), "", "\ud800", "a" * 99, [], [[[]]], {}, {"a": [None]}]

NO_CARDS = [b"", b"[]", b"{}", b"null", b"[" * 10**5, b"\xff\xfe", b'{"card_sha256": 1}']


def places(content: Any) -> list[tuple[Any, Any]]:
    """Each object or list in `content`, with each key or index of it."""
    here = list(content) if isinstance(content, dict) else range(len(content)) if isinstance(content, list) else []
    return [(content, key) for key in here] + [place for key in here for place in places(content[key])]


def damage_bytes(path: Path, chance: random.Random) -> None:
    content = bytearray(path.read_bytes())
    where = chance.randrange(len(content))
    match chance.randrange(4):
        case 0:
            content[where] ^= 1 << chance.randrange(8)
        case 1:
            del content[where:]
        case 2:
            content[where:where] = chance.randbytes(9)
        case _:
            content = bytearray(chance.choice(NO_CARDS))
    path.write_bytes(content)


def damage_card(card: Path, chance: random.Random) -> None:
    """Put junk somewhere into a card and seal it, as whoever replaces it would."""
    content = json.loads(card.read_text())
    del content["card_sha256"]
    holder, key = chance.choice(places(content))
    if isinstance(holder, dict) and chance.random() < 0.3:
        del holder[key]
    else:
        holder[key] = chance.choice(JUNK)
    card.write_text(json.dumps({**content, "card_sha256": digest(content)}))


def damage_arrays(path: Path, chance: random.Random) -> None:
    """Make one of the arrays another, and a card for them."""
    arrays = safetensors.numpy.load_file(path)
    name = chance.choice(sorted(arrays))
    array = arrays.pop(name)
    others = [
        array.astype(np.float16),
        np.stack([array, array]),
        array[..., None],
        array[:0] if array.ndim else np.full_like(array, -1),
        array[:-1] if array.ndim else np.full_like(array, 10**6),
    ]
    if name.endswith("trees"):  # of other bytes XGBoost's reader may end the process: see SECURITY.md
        del others[3:]
    if array.dtype.kind == "f":
        others.append(np.full_like(array, np.nan))
    if chance.random() < 0.8:
        arrays[name] = np.ascontiguousarray(chance.choice(others))
    path.write_bytes(safetensors.numpy.save(arrays))
    resealed(path.with_suffix(".json"))


def outcome(path: Path) -> str:
    """The line that refuses the classifier, or "" where it predicts."""
    try:
        head, _ = load_classifier(path)
        assert head.predict_proba(toy_table().read("test").x).shape == (90, 3)
    except (ModelsError, FeaturesError) as error:
        return str(error)
    return ""


@pytest.mark.parametrize("count", [40, pytest.param(500, marks=pytest.mark.slow)])
def test_mutated_files_are_refused_in_a_line(count: int, copied: Path, tmp_path: Path) -> None:
    chance, refusals = random.Random(count), 0
    for number in range(count):
        name = chance.choice(list(HEADS))
        whole = {path: path.read_bytes() for path in copied.glob(f"{name}.*")}
        path = copied / f"{name}.safetensors"
        match number % 5:
            case 0:
                damage_bytes(path.with_suffix(".json"), chance)
            case 1:
                damage_card(path.with_suffix(".json"), chance)
            case 2:
                damage_arrays(path, chance)
            case 3:
                damage_bytes(path.with_suffix(chance.choice([".safetensors", ".joblib"])), chance)
            case _:
                joblib.dump(Payload(tmp_path / "taken over"), path.with_suffix(".joblib"))
        said = outcome(path.with_suffix(".joblib"))
        refusals += bool(said)
        assert "\n" not in said
        assert said or number % 5 in (1, 2), f"mutation {number} was not noticed"
        for file, content in whole.items():
            file.write_bytes(content)
    assert refusals > 0.8 * count
    assert not (tmp_path / "taken over").exists()


def test_arrays_without_a_classifier_are_told_apart(copied: Path) -> None:
    path = copied / "linear.safetensors"
    arrays = safetensors.numpy.load_file(path)
    for change, message in {
        "weights": r"linear.safetensors holds no linear that its card tells of \(`weights` is missing\): train",
        "bias": r"\(`bias` is float64 \(3,\), expected float32 \(3\)\)",
        "places": r"\(`places` has 7 columns, expected 40 or more\)",
    }.items():
        others = {"weights": None, "bias": arrays["bias"].astype(np.float64), "places": arrays["places"][:7]}
        left = {**arrays, change: others[change]}
        path.write_bytes(safetensors.numpy.save({name: array for name, array in left.items() if array is not None}))
        resealed(path.with_suffix(".json"))
        with pytest.raises(ClassifierError, match=message):
            load_classifier(path)


def test_a_card_of_other_classes_than_its_arrays(copied: Path) -> None:
    card = copied / "linear.json"
    seal(card, json.loads(card.read_text()) | {"classes": ["a", "b"]})
    with pytest.raises(ClassifierError, match=r"holds no linear that its card tells of \(3 classes, expected 2\)"):
        load_classifier(card)


def test_features_of_another_network(copied: Path) -> None:
    head, _ = load_classifier(copied / "linear.joblib")
    with pytest.raises(ClassifierError, match=r"features of shape \(2, 41\) came, expected \(n, 40\): take those of"):
        head.predict_proba(np.zeros((2, 41), np.float32))


def test_predict_refuses_a_malformed_classifier(
    copied: Path, treehead: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    damage_bytes(copied / "xgb.json", random.Random(0))
    assert "xgb.json" in refused(treehead, capsys, "predict", copied / "xgb.joblib", "photo.png")
