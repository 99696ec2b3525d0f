"""`predict --imagenet`: a whole network as it is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import safetensors.torch
import timm
import torch
from PIL import Image
from torchvision.models import get_model, get_model_weights

from tests.conftest import Run, refused


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """A whole SqueezeNet."""
    torch.manual_seed(3)
    path = tmp_path / "squeezenet.safetensors"
    safetensors.torch.save_file(get_model("squeezenet1_1").state_dict(), path)
    return path


def test_it_names_the_five_most_likely_classes(
    treehead: Run, split_photos: Path, weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photo = split_photos / "test/red/200.png"
    command = ("predict", "--imagenet", photo, "--backbone", "squeezenet1_1", "--weights", weights, "--device", "cpu")
    assert treehead(*command, "--json") == 0
    content = json.loads(capsys.readouterr().out)
    (prediction,) = content["images"]
    categories = get_model_weights("squeezenet1_1")["DEFAULT"].meta["categories"]
    assert list(prediction["probabilities"]) == categories
    network = get_model("squeezenet1_1").eval()
    network.load_state_dict(safetensors.torch.load_file(weights))
    transform = get_model_weights("squeezenet1_1")["DEFAULT"].transforms()
    with torch.inference_mode(), Image.open(photo) as image:
        expected = network(transform(image.convert("RGB"))[None]).softmax(1)[0]
    assert list(prediction["probabilities"].values()) == pytest.approx(expected.numpy(), abs=1e-4)
    assert treehead(*command) == 0
    shown = capsys.readouterr().out
    assert all(categories[number] in shown for number in expected.topk(5).indices.tolist())
    assert sum("%" in line for line in shown.splitlines()) == 5


def test_weights_without_a_classifier(
    treehead: Run, split_photos: Path, weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state = safetensors.torch.load_file(weights)
    trunk = weights.with_name("trunk.safetensors")
    safetensors.torch.save_file({name: tensor for name, tensor in state.items() if "classifier" not in name}, trunk)
    command = ("predict", "--imagenet", split_photos, "--backbone", "squeezenet1_1", "--weights", trunk)
    assert "do not fit (missing: classifier.1.weight" in refused(treehead, capsys, *command)


def test_offline_it_says_where_to_put_the_file(
    treehead: Run,
    split_photos: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError("no network")

    monkeypatch.setattr(torch.hub, "download_url_to_file", refuse)
    line = refused(treehead, capsys, "predict", "--imagenet", split_photos)
    assert "the imagenet weights are not at" in line
    assert "alexnet-owt-7be5be79.pth" in line
    assert "put the file there, or give --weights a file" in line


def test_networks_of_other_packages_know_imagenets_classes_as_well(
    treehead: Run, split_photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photo = split_photos / "test/red/200.png"
    assert treehead("predict", "--imagenet", "--backbone", "efficientnet_lite0", photo, "--json") == 0
    (prediction,) = json.loads(capsys.readouterr().out)["images"]
    assert list(prediction["probabilities"]) == get_model_weights("alexnet")["DEFAULT"].meta["categories"]


def test_a_network_with_other_classes_is_refused(
    treehead: Run, split_photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = "vit_tiny_patch16_224.augreg_in21k"
    torch.save(timm.create_model(name).state_dict(), tmp_path / "w.pth")
    command = ("predict", "--imagenet", "--backbone", f"timm:{name}", "--weights", tmp_path / "w.pth", split_photos)
    assert "which knows 21,843 classes, not ImageNet's" in refused(treehead, capsys, *command)


def test_a_classifier_needs_images(treehead: Run, split_photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "model.joblib came alone: give a classifier, and then image files" in refused(
        treehead, capsys, "predict", "model.joblib"
    )
