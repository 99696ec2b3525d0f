from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from numpy.typing import NDArray
from torchvision.models import get_model

from features.errors import TrunkError
from features.storage import from_json
from features.trunk.engine import ONNXRUNTIME, TORCH
from features.trunk.recipe import normalise
from features.trunk.spec import TrunkOptions, TrunkSpec
from features.trunk.trunk import Trunk, build_trunk, rebuild_trunk
from features.trunk.weights import state_sha256
from tests.conftest import CPU

FLOAT16_STEP = 2**-10
"""Of itself: how far a feature may move with the batch that it is computed in (fp32, CPU)."""


def build(backbone: str = "resnet18", *, seed: int = 0, **options: Any) -> Trunk:
    usual = {"backbone": backbone, "weights": "random", "image_size": 64, "precision": "fp32"}
    return build_trunk(TrunkOptions(**{**usual, **options}), CPU, seed=seed)


def vectors(trunk: Trunk, batch: torch.Tensor) -> NDArray[np.float16]:
    """The features of a trunk with one node."""
    (output,) = trunk.forward(batch)
    return output


def images(count: int, size: int = 64) -> torch.Tensor:
    return torch.randint(0, 256, (count, 3, size, size), generator=torch.Generator().manual_seed(0)).to(torch.uint8)


@pytest.fixture(params=[("alexnet", TORCH), ("resnet18", TORCH), ("resnet18", ONNXRUNTIME)], ids=" ".join)
def trunk(request: pytest.FixtureRequest) -> Trunk:
    backbone, engine = request.param
    return build(backbone, engine=engine)


def test_frozen_means_no_gradient_no_statistics_no_change(trunk: Trunk) -> None:
    before = state_sha256(trunk.module)
    assert before == trunk.spec.weights_sha256
    trunk.forward(images(8))
    assert state_sha256(trunk.module) == before
    assert not any(parameter.requires_grad for parameter in trunk.module.parameters())
    assert not any(module.training for module in trunk.module.modules())


def test_the_hash_sees_batch_norm_statistics(trunk: Trunk) -> None:
    buffers = dict(trunk.module.named_buffers())
    name = next(iter(buffers or dict(trunk.module.named_parameters())))
    before = state_sha256(trunk.module)
    with torch.no_grad():
        trunk.module.state_dict()[name].add_(1)
    assert state_sha256(trunk.module) != before


def test_features_do_not_depend_on_batch_or_order(trunk: Trunk) -> None:
    batch = images(9)
    together = vectors(trunk, batch)
    alone = np.concatenate([vectors(trunk, batch[i : i + 1]) for i in range(9)])
    backwards = vectors(trunk, batch.flip(0))[::-1]
    assert together == pytest.approx(alone, rel=FLOAT16_STEP, abs=1e-5)
    assert together == pytest.approx(backwards, rel=FLOAT16_STEP, abs=1e-5)


@pytest.mark.parametrize(("backbone", "dim"), [("alexnet", 9216), ("resnet18", 512), ("resnet50", 2048)])
def test_default_node_is_what_the_classifier_sees(backbone: str, dim: int) -> None:
    trunk = build(backbone)
    network = get_model(backbone, weights=None).eval()
    network.load_state_dict(trunk.module.state_dict(), strict=False)
    seen: list[torch.Tensor] = []
    head = network.get_submodule("classifier" if backbone == "alexnet" else "fc")
    head.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    with torch.inference_mode():
        network(normalise(images(2), trunk.spec.mean, trunk.spec.std))
    features = vectors(trunk, images(2))
    assert trunk.dims == (dim,)
    assert features == pytest.approx(seen[0].numpy(), rel=2**-10, abs=float(1e-4 * np.abs(features).max()))


def test_random_weights_depend_on_the_seed_alone() -> None:
    first, again, other = (build(seed=seed).spec for seed in (0, 0, 1))
    assert first == again
    assert first.weights_sha256 != other.weights_sha256
    assert not first.pretrained


def test_building_leaves_the_random_state_alone() -> None:
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    build()
    assert torch.equal(torch.rand(3), expected)


def test_preprocessing_scales_with_the_image_size() -> None:
    assert (build(image_size=None).spec.image_size, build(image_size=None).spec.resize) == (224, 256)
    assert build(image_size=112).spec.resize == 128


def test_spec_survives_json() -> None:
    spec = build().spec
    assert from_json(TrunkSpec, spec.to_json()) == spec


def test_weights_that_are_loaded_are_not_drawn_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "weights.safetensors"
    state = {key: value.clone() for key, value in get_model("alexnet", weights=None).state_dict().items()}
    safetensors.torch.save_file(state, path)
    before = torch.get_rng_state()
    drawn: list[object] = []
    monkeypatch.setattr(torch.nn.init, "_no_grad_uniform_", lambda *args: drawn.append(args))
    module = build("alexnet", weights=str(path)).module
    assert not drawn
    assert all(torch.equal(tensor, state[key]) for key, tensor in module.state_dict().items())
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
@pytest.mark.parametrize("part", ["whole", "trunk"])
def test_weights_from_a_file(tmp_path: Path, suffix: str, part: str) -> None:
    torch.manual_seed(3)
    state = get_model("resnet18", weights=None).state_dict()
    if part == "trunk":
        state = {key: value for key, value in state.items() if not key.startswith("fc.")}
    path = tmp_path / f"weights{suffix}"
    if suffix == ".pth":
        torch.save(state, path)
    else:
        safetensors.torch.save_file(state, path)
    trunk = build(weights=str(path))
    assert torch.equal(trunk.module.state_dict()["conv1.weight"], state["conv1.weight"])
    assert trunk.spec.weights == path.name
    assert trunk.spec.pretrained


def test_the_same_weights_are_the_same_in_any_file(tmp_path: Path) -> None:
    state = {key: value.contiguous() for key, value in build().module.state_dict().items()}
    torch.save(state, tmp_path / "a.pth")
    safetensors.torch.save_file(state, tmp_path / "b.safetensors")
    hashes = {build(weights=str(tmp_path / name)).spec.weights_sha256 for name in ("a.pth", "b.safetensors")}
    assert hashes == {build().spec.weights_sha256}


def test_weights_that_do_not_fit_list_the_keys(tmp_path: Path) -> None:
    state = get_model("alexnet", weights=None).state_dict()
    torch.save(state, tmp_path / "alexnet.pth")
    with pytest.raises(TrunkError, match=r"do not fit \(missing: conv1.weight.*unexpected: features.0.weight"):
        build(weights=str(tmp_path / "alexnet.pth"))
    state["features.0.weight"] = torch.zeros(64, 3, 5, 5)
    torch.save(state, tmp_path / "alexnet.pth")
    with pytest.raises(TrunkError, match=r"of another shape: features.0.weight \(64, 3, 5, 5\) for \(64, 3, 11, 11\)"):
        build("alexnet", weights=str(tmp_path / "alexnet.pth"))


@pytest.mark.parametrize("name", ["weights.pth", "weights.safetensors"])
def test_damaged_weights(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"not weights")
    with pytest.raises(TrunkError, match=f"cannot read weights from .*{name}"):
        build(weights=str(tmp_path / name))


def test_a_pickle_of_something_else_is_not_weights(tmp_path: Path) -> None:
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(TrunkError, match=r"is not a plain dictionary of tensors: save the model's state_dict\(\)"):
        build(weights=str(tmp_path / "list.pth"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"backbone": "resnet19"}, "unknown backbone 'resnet19': expected timm:NAME, .*or one of alexnet, "),
        ({"node": "layer9"}, "unknown node 'layer9' of resnet18: expected one of conv1, .*layer3.1.*flatten, fc"),
        ({"weights": "imagnet"}, "unknown weights 'imagnet': expected auto, imagenet, bundled, random, or a"),
        (
            {"backbone": "alexnet", "image_size": 20},
            "`image_size=20` does not suit alexnet: expected 63 or more",
        ),
    ],
)
def test_what_there_is_not(options: dict[str, Any], message: str) -> None:
    with pytest.raises(TrunkError, match=message):
        build(**options)


def test_imagenet_weights_absent_and_offline(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError("no network")

    monkeypatch.setattr(torch.hub, "download_url_to_file", refuse)
    with pytest.raises(TrunkError, match=r"not at .*resnet18-f37072fd.pth and could not be downloaded \(no network\)"):
        build(weights="imagenet")


def test_imagenet_weights_in_the_cache_are_checked(tmp_path: Path) -> None:
    cache = tmp_path / "hub" / "checkpoints"
    cache.mkdir(parents=True)
    torch.save(build().module.state_dict(), cache / "resnet18-f37072fd.pth")
    with pytest.raises(TrunkError, match=r"is damaged .*does not begin with f37072fd.*: delete it and run again"):
        build(weights="imagenet")


def test_rebuilding_needs_the_very_weights(tmp_path: Path) -> None:
    first, other = build(seed=1), build(seed=2)
    path = str(tmp_path / "weights.pth")
    torch.save(other.module.state_dict(), path)
    assert rebuild_trunk(first.specs, weights="random", device=CPU).spec == first.spec
    prepared_otherwise = replace(first.spec, resize=99, interpolation="bicubic")
    assert rebuild_trunk([prepared_otherwise], weights="random", device=CPU).spec == prepared_otherwise
    with pytest.raises(TrunkError, match=r"are not the ones the classifier was trained with"):
        rebuild_trunk(first.specs, weights=path, device=CPU)
