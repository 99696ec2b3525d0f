from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest

from models.errors import SettingsError
from models.heads.registry import DEFAULTS, HEADS, Choice, HeadSettings, Range, make_head
from models.heads.settings import HybridSettings, LinearSettings, MlpSettings, XgbSettings
from tests.conftest import CPU, Run, refused
from tests.test_layering import ROOT

OUT_OF_RANGE: dict[str, dict[str, float | str]] = {
    "xgb": {
        "columns": 0,
        "discriminant_columns": -1,
        "rounds": 0,
        "patience": 0,
        "learning_rate": 1.5,
        "max_depth": 33,
        "max_bin": 1,
        "column_share": 0.0,
    },
    "linear": {"columns": 0, "shrinkages": 1.5, "penalties": 0.0, "iterations": 0},
    "mlp": {
        "columns": 0,
        "shrinkages": 0.0,
        "hidden": 0,
        "input_dropout": 1.0,
        "dropout": -0.5,
        "epochs": 0,
        "batches": 0,
        "learning_rate": 0.0,
        "weight_decay": 1.0,
    },
    "knn": {"columns": 0, "components": 0, "neighbours": 0},
    "hybrid": {"parts": "forest"},
}
"""Values that settings cannot have; of numbers that are not named here −1 is tried."""

WHOLE = [name for name in HEADS if not DEFAULTS.of(name).parts]
"""The heads that are not made of others."""


def wrong_values(name: str) -> dict[str, float | str]:
    """Of each number among a head's settings a value that it cannot have."""
    settings = asdict(DEFAULTS.of(name))
    firsts = {setting: value[0] if isinstance(value, tuple) else value for setting, value in settings.items()}
    numbers = {setting: type(value)(-1) for setting, value in firsts.items() if type(value) in (int, float)}
    return numbers | OUT_OF_RANGE.get(name, {})


@pytest.mark.parametrize("name", HEADS)
def test_a_row_has_the_class_and_the_settings_of_its_head(name: str) -> None:
    assert make_head(name, seed=0, device=CPU).name == DEFAULTS.of(name).head == name
    head = make_head(name, seed=3, device=CPU)
    assert (type(head), head.settings, head.seed) == (HEADS[name].load(), DEFAULTS.of(name), 3)


@pytest.mark.parametrize("name", HEADS)
def test_a_search_space_is_of_settings_and_holds_the_defaults(name: str) -> None:
    settings, space = DEFAULTS.of(name), HEADS[name].space
    assert bool(space) != bool(settings.parts)
    for setting, values in space.items():
        default = getattr(settings, setting)
        if isinstance(values, Choice):
            assert default in values.values
        else:
            assert isinstance(values, Range)
            assert values.low <= default <= values.high
            assert type(values.low) is type(values.high) is type(default)


def test_parts_are_made_with_their_own_settings() -> None:
    settings = HeadSettings(
        xgb=XgbSettings(rounds=7), mlp=MlpSettings(epochs=2), hybrid=HybridSettings(parts=("mlp", "xgb"))
    )
    whole = make_head("hybrid", settings, seed=1, device=CPU)
    assert [(part.name, part.settings, part.seed) for part in whole.parts] == [
        ("mlp", settings.mlp, 1),
        ("xgb", settings.xgb, 1),
    ]
    other = whole.with_settings({"xgb": XgbSettings(rounds=9)})
    assert [part.settings for part in other.parts] == [settings.mlp, XgbSettings(rounds=9)]


def test_importing_it_is_quick() -> None:
    program = (
        "import sys, models.heads.registry\n"
        "print([name for name in ('torch', 'sklearn', 'xgboost', 'optuna', 'numpy') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True, capture_output=True, text=True)
    assert done.stdout == "[]\n"


@pytest.mark.parametrize("name", HEADS)
def test_every_setting_is_an_option_and_what_is_out_of_range_is_refused(
    name: str, treehead: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    for setting, value in wrong_values(name).items():
        option = f"--{name}.{setting.replace('_', '-')}"
        line = refused(treehead, capsys, "compare", option, value)
        assert line.startswith(f"treehead: {option} {value} ")
        assert ": expected " in line


def test_a_setting_is_named_as_it_is_in_python() -> None:
    with pytest.raises(SettingsError, match=r"^`xgb.rounds=0` is out of range: expected 1 to 1000000$"):
        XgbSettings(rounds=0)
    with pytest.raises(SettingsError, match=r"^`mlp.hidden=0` is out of range"):
        MlpSettings(hidden=(512, 0))
    with pytest.raises(SettingsError, match=r"^`linear.penalties=\(\)` is empty: expected one value or more$"):
        LinearSettings(penalties=())


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ((), r"`hybrid.parts=\(\)` came: expected two heads or more"),
        (("xgb",), "`hybrid.parts=xgb` came: expected two heads or more, each once"),
        (("xgb", "xgb"), "`hybrid.parts=xgb` `hybrid.parts=xgb` came: expected two heads or more, each once"),
        (("xgb", "forest"), f"`hybrid.parts=forest` came: expected some of {', '.join(WHOLE)}$"),
        (("xgb", "hybrid"), f"`hybrid.parts=hybrid` came: expected some of {', '.join(WHOLE)}$"),
    ],
)
def test_parts_that_no_head_can_be_made_of(parts: tuple[str, ...], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        HeadSettings(hybrid=HybridSettings(parts=parts))


def test_settings_reach_the_head(treehead: Run, split_photos: Path) -> None:
    images = ("--dataset", split_photos, "--backbone", "squeezenet1_1", "--weights", "random", "--image-size", 32)
    parts = ("--heads", "hybrid,linear", "--hybrid.parts", "knn", "--hybrid.parts", "linear")
    options = ("--knn.neighbours", 2, "--knn.neighbours", 4, "--linear.iterations", 30, "--linear.columns", 64)
    assert treehead("compare", *images, *parts, *options) == 0
    heads = json.loads(next(Path("artifacts").glob("compare/*/metrics.json")).read_text())["heads"]
    parameters = heads["hybrid"]["parameters"]["parts"]
    assert set(parameters) == {"knn", "linear"}
    assert parameters["knn"]["neighbours"] == [2, 4]
    expected = asdict(LinearSettings(iterations=30, columns=64)) | {"seed": 0}
    assert parameters["linear"] == heads["linear"]["parameters"] == json.loads(json.dumps(expected))
