"""Frozen trunks: which networks, cut at which node, with which weights and preprocessing."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn.utils import convert_conv2d_weight_memory_format
from torchvision.models import WeightsEnum, get_model, get_model_weights
from torchvision.models.feature_extraction import create_feature_extractor, get_graph_node_names

from features.errors import TrunkError, first_line
from features.preprocess import normalise, to_square
from features.weights import file_state, imagenet_state, load_into, state_sha256

BACKBONES = {
    "alexnet": "avgpool",
    "resnet18": "flatten",
    "resnet34": "flatten",
    "resnet50": "flatten",
    "resnet101": "flatten",
    "resnet152": "flatten",
}
"""torchvision's name of each network, and the node whose output its own classifier sees."""


@dataclass(frozen=True, kw_only=True)
class TrunkSpec:
    """Everything that decides a feature's value, apart from the image.

    `weights` is `imagenet`, `random` or the name of a file; `weights_sha256` is that of the trunk's own tensors (see
    `state_sha256`), so that the same weights make the same table from any file; `seed` is that of random weights,
    else None. Sizes are in pixels: the shorter side becomes `resize`, the centre `image_size` is what the network sees.
    """

    backbone: str
    weights: str
    weights_sha256: str
    seed: int | None
    node: str
    image_size: int
    resize: int
    interpolation: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    precision: str = "fp32"

    @property
    def pretrained(self) -> bool:
        """Whether anything was learnt before: random weights are no transfer learning."""
        return self.weights != "random"

    def to_json(self) -> dict[str, Any]:
        """A dictionary that JSON can hold; `from_json` turns it back."""
        return asdict(self) | {"mean": list(self.mean), "std": list(self.std)}

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> TrunkSpec:
        """The spec that `to_json` wrote."""
        return cls(**content | {"mean": tuple(content["mean"]), "std": tuple(content["std"])})


class Trunk:
    """A frozen network up to one node. `dim` is the length of a feature vector."""

    def __init__(self, spec: TrunkSpec, module: nn.Module, device: torch.device) -> None:
        self.spec = spec
        self.module = convert_conv2d_weight_memory_format(module.to(device), torch.channels_last)
        self.device = device
        self.dim = _output_dim(self)

    def prepare(self, pixels: NDArray[np.uint8]) -> torch.Tensor:
        """Resize and crop one image: (h, w, 3) uint8 to (3, image_size, image_size) uint8."""
        spec = self.spec
        return to_square(pixels, resize=spec.resize, size=spec.image_size, interpolation=spec.interpolation)

    @torch.inference_mode()
    def forward(self, images: torch.Tensor) -> NDArray[np.float32]:
        """Features of prepared images: (n, 3, image_size, image_size) uint8 to (n, dim) float32."""
        batch = normalise(images.to(self.device), self.spec.mean, self.spec.std)
        with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):  # fp32 means the same on every device
            output: torch.Tensor = self.module(batch.contiguous(memory_format=torch.channels_last))["features"]
        return output.flatten(start_dim=1).float().cpu().numpy()


def build_trunk(
    backbone: str, *, weights: str, node: str | None, image_size: int | None, seed: int, device: torch.device
) -> Trunk:
    """Build a frozen trunk.

    `weights` is `imagenet`, `random` (drawn from `seed`) or a file; `node` and `image_size` default to the
    network's own. Raises TrunkError for an unknown name, weights that do not fit, or too small an image.
    """
    if backbone not in BACKBONES:
        raise TrunkError(f"unknown backbone {backbone!r}: expected one of {', '.join(BACKBONES)}")
    node = node or BACKBONES[backbone]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = get_model(backbone, weights=None)
    module = freeze(_cut(network, backbone, node))
    preset = get_model_weights(backbone)["IMAGENET1K_V1"]
    if weights == "imagenet":
        preset = get_model_weights(backbone)["DEFAULT"]
        load_into(module, imagenet_state(preset), whole_model=network.state_dict(), where="torchvision's file")
    elif weights != "random":
        load_into(module, file_state(Path(weights)), whole_model=network.state_dict(), where=weights)
    spec = TrunkSpec(
        backbone=backbone,
        weights=weights if weights in ("imagenet", "random") else Path(weights).name,
        weights_sha256=state_sha256(module),
        seed=seed if weights == "random" else None,
        node=node,
        **_preprocessing(preset, image_size),
    )
    return Trunk(spec, module, device)


def rebuild_trunk(spec: TrunkSpec, *, weights: str, device: torch.device) -> Trunk:
    """Build the very trunk that `spec` describes, from `weights`; raises TrunkError if they are others."""
    trunk = build_trunk(
        spec.backbone,
        weights=weights,
        node=spec.node,
        image_size=spec.image_size,
        seed=spec.seed or 0,
        device=device,
    )
    if trunk.spec.weights_sha256 != spec.weights_sha256:
        raise TrunkError(
            f"the weights in {weights} are not the ones the classifier was trained with (SHA-256 "
            f"{trunk.spec.weights_sha256[:8]}, expected {spec.weights_sha256[:8]}): give the right --weights FILE"
        )
    return Trunk(spec, trunk.module, device)  # with the preprocessing of `spec`, whatever the weights came as


def freeze(module: nn.Module) -> nn.Module:
    """Stop both gradients and batch-norm statistics: no parameter and no buffer changes from here on."""
    return module.eval().requires_grad_(False)


def _cut(network: nn.Module, backbone: str, node: str) -> nn.Module:
    """The part of `network` that computes `node`; raises TrunkError for a node it does not have."""
    _, names = get_graph_node_names(network)
    names = names[1:]  # the first is the network's input
    if not any(name == node or name.startswith(f"{node}.") for name in names):
        choices = dict.fromkeys(".".join(name.split(".")[:2]) for name in names)
        raise TrunkError(f"unknown node {node!r} of {backbone}: expected one of {', '.join(choices)}")
    return create_feature_extractor(network, {node: "features"})


def _preprocessing(preset: WeightsEnum, image_size: int | None) -> dict[str, Any]:
    """How the weights' own recipe prepares images, its sizes scaled to `image_size` where that is given."""
    recipe = preset.transforms()
    size, resize = recipe.crop_size[0], recipe.resize_size[0]
    image_size = image_size or size
    return {
        "image_size": image_size,
        "resize": round(image_size * resize / size),
        "interpolation": recipe.interpolation.value,
        "mean": tuple(recipe.mean),
        "std": tuple(recipe.std),
    }


def _output_dim(trunk: Trunk) -> int:
    spec = trunk.spec
    try:
        blank = torch.zeros(1, 3, spec.image_size, spec.image_size, dtype=torch.uint8)
        return int(trunk.forward(blank).shape[1])
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        raise TrunkError(
            f"{spec.backbone} cannot take images of {spec.image_size} px at node {spec.node!r} "
            f"({first_line(error)}): give a larger --image-size"
        ) from error
