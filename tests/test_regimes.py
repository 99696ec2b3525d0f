from __future__ import annotations

from pathlib import Path

import pytest
import torch

from features.sources.registry import open_source
from features.squares import Squares, decode_once
from features.trunk.loaded import open_backbone
from models.errors import SettingsError
from models.networks.examples import ImageExamples
from models.networks.network import Network
from models.networks.retrain import phases_of
from models.networks.settings import RetrainSettings, TrainingSettings, Views
from models.networks.trainer import Trainer
from tests.conftest import TinyBackbone

SIZE = 64
"""px: the least that AlexNet takes."""

CHILDREN = ("conv", "norm", "layer")

NETWORKS = [
    ("alexnet", "freeze:6"),
    ("vgg11_bn", "freeze:9"),
    ("resnet18", "freeze:6"),
    ("squeezenet1_1", "freeze:5"),
    ("densenet121", "freeze:5"),
    ("mobilenet_v2", "freeze:5"),
    ("mobilenet_v3_small", "freeze:4"),
    ("googlenet", "freeze:4"),
    ("timm:resnet10t", "freeze:4"),
    ("shufflenet_v2_x0_5", "freeze:3"),
    ("efficientnet_b0", "freeze:3"),
    ("convnext_tiny", "freeze:3"),
    ("swin_t", "freeze:3"),
]


@pytest.fixture
def squares(split_photos: Path) -> Squares:
    source = open_source(str(split_photos))
    return decode_once(source, TinyBackbone.recipe.at(SIZE), split_photos.parent, max_bad=0, on_images=lambda _: None)


def test_the_phases_of_each_regime() -> None:
    def frozen(regime: str) -> list[tuple[str, ...]]:
        return [phase.frozen for phase in phases_of(regime, CHILDREN)]

    assert frozen("feature-extraction") == [CHILDREN]
    assert frozen("freeze:1") == [("conv",)]
    assert frozen("freeze:3") == [CHILDREN]
    assert frozen("finetune") == frozen("scratch") == frozen("lp-ft") == [()]
    assert frozen("two-phase") == [CHILDREN, ()]


def test_two_phases_share_the_schedule() -> None:
    first, second = (
        phase.settings(TrainingSettings(epochs=10, learning_rate=0.5)) for phase in phases_of("two-phase", "ab")
    )
    assert (first.epochs, second.epochs) == (3, 7)
    assert second.learning_rate == pytest.approx(0.05)
    parts = [phase.settings(TrainingSettings(minutes=10)).minutes for phase in phases_of("two-phase", "ab")]
    assert parts == pytest.approx([3, 7])


@pytest.mark.parametrize("epochs", range(2, 20))
def test_two_phases_have_as_many_epochs_as_asked_for(epochs: int) -> None:
    settings = TrainingSettings(epochs=epochs)
    assert sum(phase.settings(settings).epochs for phase in phases_of("two-phase", "ab")) == epochs


@pytest.mark.parametrize("regime", ["freeze:0", "freeze:4", "freeze:", "freeze:x", "freeze:-1"])
def test_children_that_there_are_not(regime: str) -> None:
    with pytest.raises(
        SettingsError, match=r"names no child of the network: expected freeze:K with K of 1 conv, 2 norm"
    ):
        phases_of(regime, CHILDREN)


def test_a_regime_that_there_is_not() -> None:
    with pytest.raises(SettingsError, match="unknown `regime=all`: expected one of feature-extraction, freeze:K, fine"):
        RetrainSettings(regime="all")


@pytest.mark.parametrize(("name", "partly"), NETWORKS)
@pytest.mark.parametrize("regime", ["feature-extraction", "partly"])
def test_what_is_frozen_stays_as_it_is(name: str, partly: str, regime: str, squares: Squares, tmp_path: Path) -> None:
    backbone = open_backbone(name, 0)
    network = Network(backbone, 3, image_size=SIZE, seed=0, pool="auto")
    (phase,) = phases_of(partly if regime == "partly" else regime, network.children_of_trunk())
    before = {key: tensor.clone() for key, tensor in network.state_dict().items()}
    settings = TrainingSettings(epochs=1, batch_images=12, learning_rate=0.05, weight_decay=0.1)
    network.freeze(phase.frozen)
    examples = ImageExamples(squares, Views())
    trainer = Trainer(network, examples, settings, seed=0)
    trainer.run(tmp_path / "checkpoint.pt", lambda _: None, lambda *_: None)
    moved = {key for key, tensor in network.state_dict().items() if not torch.equal(tensor, before[key])}
    frozen = tuple(f"trunk.{child}." for child in phase.frozen)
    assert not [key for key in moved if key.startswith(frozen)]
    assert "head.weight" in moved
    if regime == "partly":
        trained = [key for key in before if key.startswith("trunk.") and not key.startswith(frozen)]
        assert moved & set(trained)
    else:
        assert moved == {"head.weight", "head.bias"}


def test_a_class_token_is_frozen_with_what_follows_it() -> None:
    network = Network(open_backbone("timm:test_vit", 0), 3, image_size=160, seed=0, pool="auto")
    children = network.children_of_trunk()
    token = dict(network.trunk.named_parameters())["cls_token"]
    network.freeze(children[:1])
    assert not token.requires_grad
    assert any(parameter.requires_grad for parameter in network.trunk.parameters())
    network.freeze(())
    assert token.requires_grad
    network.freeze(children)
    assert not any(parameter.requires_grad for parameter in network.trunk.parameters())
