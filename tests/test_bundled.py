from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from features.errors import TrunkError
from features.storage import file_sha256
from features.trunk import bundled
from features.trunk.loaded import open_backbone
from features.trunk.spec import TrunkOptions
from features.trunk.trunk import Trunk, build_trunk, rebuild_trunk
from features.trunk.weights import file_state, load_into
from tests.conftest import CPU, Installed

CARDS = sorted(bundled.FOLDER.glob("*.json"))


def build(weights: str = "bundled", backbone: str = "alexnet") -> Trunk:
    return build_trunk(TrunkOptions(backbone=backbone, weights=weights, precision="fp32"), CPU)


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of bundled weights that holds an AlexNet of 64 px."""
    monkeypatch.setattr(bundled, "FOLDER", tmp_path)
    backbone = open_backbone("alexnet", 5)
    path = tmp_path / "alexnet.safetensors"
    state = backbone.cut([backbone.node]).state_dict()
    safetensors.torch.save_file({name: tensor.half() for name, tensor in state.items()}, path)
    recipe = {"image_size": 64, "resize": 73, "interpolation": "bilinear", "mean": [0.5] * 3, "std": [0.2] * 3}
    scores = {"accuracy": 0.5, "log_loss": 2.0}
    write_card(tmp_path, {"trunk": {"sha256": file_sha256(path)}, "recipe": recipe, "validation": scores})
    return tmp_path


def write_card(shelf: Path, content: Any) -> None:
    (shelf / "alexnet.json").write_text(json.dumps(content), encoding="utf-8")


def test_bundled_weights_come_with_their_recipe(shelf: Path) -> None:
    trunk = build()
    assert trunk.spec.weights == "bundled"
    assert trunk.spec.pretrained
    assert (trunk.spec.image_size, trunk.spec.resize, trunk.spec.mean) == (64, 73, (0.5, 0.5, 0.5))
    stored = safetensors.torch.load_file(shelf / "alexnet.safetensors")["features.3.weight"]
    assert torch.equal(trunk.module.state_dict()["features.3.weight"], stored.float())
    assert rebuild_trunk(trunk.specs, weights="bundled", device=CPU).spec == trunk.spec


def test_a_changed_byte_is_an_error(shelf: Path) -> None:
    path = shelf / "alexnet.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(TrunkError, match=r"is not the file its card names .*: install treehead again"):
        build()


def test_bundled_weights_that_are_missing(shelf: Path) -> None:
    (shelf / "alexnet.safetensors").unlink()
    with pytest.raises(TrunkError, match=r"cannot be read \(No such file or directory\): install treehead again"):
        build()


@pytest.mark.parametrize("content", [[], {}, {"trunk": {"sha256": "0"}}, {"trunk": {"sha256": "0"}, "recipe": {}}])
def test_a_card_that_is_none(shelf: Path, content: Any) -> None:
    write_card(shelf, content)
    with pytest.raises(TrunkError, match=r"alexnet.json is no card of a trunk .*: install treehead again"):
        build()


def test_backbones_without_bundled_weights(shelf: Path) -> None:
    expected = (
        "no weights of resnet18 come with treehead, those of alexnet do: give `weights=imagenet`, random or a file"
    )
    with pytest.raises(TrunkError, match=re.escape(expected)):
        build(backbone="resnet18")
    (shelf / "alexnet.json").unlink()
    with pytest.raises(TrunkError, match="no weights of alexnet come with treehead, those of no backbone do"):
        build()


def test_auto_takes_what_is_there(shelf: Path) -> None:
    assert build("auto").spec.weights == "bundled"
    assert build("auto", "squeezenet1_1").spec.weights == "random"
    (shelf / "hub" / "checkpoints").mkdir(parents=True)
    (shelf / "hub" / "checkpoints" / "alexnet-owt-7be5be79.pth").touch()
    with pytest.raises(TrunkError, match=r"alexnet-owt-7be5be79.pth is damaged"):
        build("auto")


def test_alexnets_are_bundled_and_what_a_person_gets_who_asks_for_none() -> None:
    assert "alexnet" in {card.stem for card in CARDS}
    assert build("auto").spec.weights == "bundled"


@pytest.mark.parametrize("card", CARDS, ids=lambda card: card.stem)
def test_what_is_bundled_fits(card: Path) -> None:
    backbone = open_backbone(card.stem, 0)
    state, recipe = bundled.bundled_state(card.stem)
    load_into(backbone.cut([backbone.node]), state, backbone, where=card.stem)
    assert recipe.image_size >= backbone.smallest
    assert file_state(card.with_suffix(".safetensors")).keys() == state.keys()
    assert card.with_suffix(".safetensors").stat().st_size <= 5_000_000
    assert file_sha256(card.with_suffix(".safetensors")) in card.with_suffix(".md").read_text(encoding="utf-8")


@pytest.mark.slow
def test_an_installed_wheel_brings_its_weights(installed: Installed, tmp_path: Path, split_photos: Path) -> None:
    folder = installed.run("-c", "import features.trunk.bundled as b; print(b.FOLDER)", folder=tmp_path)
    assert Path(folder).is_relative_to(installed.site)
    command = installed.python.with_name("treehead")
    model = installed.run(
        command, "xgb", "--dataset", split_photos, "--weights", "bundled", "--device", "cpu", folder=tmp_path
    )
    answer = installed.run(command, "predict", model, split_photos / "test/red/200.png", "--json", folder=tmp_path)
    (prediction,) = json.loads(answer)["images"]
    assert prediction["class"] in ("red", "green", "blue")
