"""A whole network as a classifier: its weights on disk, and the network as a trunk that ends in its logits.

So the loop that makes feature tables makes its predictions as well, and what it says of test images is a table.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from scipy.special import softmax
from torch import nn

from features.errors import first_line
from features.storage import from_json
from features.trunk.backbone import State
from features.trunk.engine import TORCH, onnx_forward
from features.trunk.loaded import freeze, open_backbone
from features.trunk.recipe import Recipe
from features.trunk.spec import FROM_SCRATCH, RETRAINED, TrunkSpec
from features.trunk.trunk import Trunk
from features.trunk.weights import state_sha256
from models.errors import ClassifierError
from models.heads.head import DATA, Classifier, JsonObject, Probabilities
from models.networks.network import Network, exported_trunk
from models.networks.settings import NETWORK

LOGITS = "logits"
"""The node of a network that its head's output is."""


class NetworkClassifier(Classifier):
    """A network with its head, retrained or as published; the features that `predict_proba` takes are its logits."""

    name = NETWORK
    format = 3
    suffixes = (DATA,)

    def __init__(self, *, seed: int, device: torch.device, settings: Mapping[str, Any] | None = None) -> None:
        super().__init__(seed=seed, device=device)
        self.settings = dict(settings or {})
        self.state: State = {}

    def take(self, network: Network) -> None:
        """Take over the weights of a trained network: norms folded, as `restore` finds them."""
        trunk = {f"trunk.{name}": tensor for name, tensor in exported_trunk(network.backbone, torch.float32).items()}
        head = {f"head.{name}": tensor.cpu().contiguous() for name, tensor in network.head.state_dict().items()}
        self.state = trunk | head

    def parameters(self) -> JsonObject:
        return {**self.settings, "seed": self.seed}

    def predict_proba(self, x: NDArray[np.float32]) -> Probabilities:
        return softmax(x.astype(np.float32), axis=1)

    def save(self, path: Path, suffix: str) -> None:
        path.write_bytes(safetensors.torch.save(self.state))

    def restore(self, path: Path) -> None:
        try:
            self.state = safetensors.torch.load(path.read_bytes())
        except (SafetensorError, KeyError) as error:  # KeyError: of a type that PyTorch does not know
            raise ValueError(f"no tensors: {first_line(error)}") from error

    def trunk(self, device: torch.device) -> Trunk:
        """The network as a frozen trunk whose one node gives its logits; raises ClassifierError for other weights."""
        kept = self._kept()
        name, recipe, size = kept.backbone, kept.recipe, kept.recipe.image_size
        backbone, classes = open_backbone(name, 0), len(self.classes_)
        try:
            network = Network(backbone, classes, image_size=size, seed=0, pool="auto", hidden=kept.hidden)
            network.load_state_dict(self.state)
        except RuntimeError as error:
            raise ClassifierError(
                f"the weights are not those of {name} with its head ({first_line(error)}): train it again"
            ) from error
        weights = RETRAINED if kept.pretrained else FROM_SCRATCH
        return logits_trunk(network, name, weights, recipe, device)

    def _kept(self) -> _Kept:
        names = [each.name for each in fields(_Kept)]
        try:
            return from_json(_Kept, {name: self.settings[name] for name in names if name in self.settings})
        except ValueError as error:
            raise ClassifierError(f"the network's card has other parameters ({error}): train it again") from error


@dataclass(frozen=True, kw_only=True)
class _Kept:
    """What of a network's settings it takes to make it again."""

    backbone: str
    hidden: int
    pretrained: bool
    recipe: Recipe


def logits_trunk(network: nn.Module, backbone: str, weights: str, recipe: Recipe, device: torch.device) -> Trunk:
    """A network that gives logits as a frozen trunk of that one node; `backbone` and `weights` are their names.

    It computes in float32, however it was trained: so it says the same on every machine, and as an ONNX file.
    """
    module = freeze(_Logits(network))
    forward = onnx_forward(module, (LOGITS,), recipe.image_size) if device.type == "cpu" else None
    spec = TrunkSpec(
        backbone=backbone,
        weights=weights,
        weights_sha256=state_sha256(module),
        seed=None,
        node=LOGITS,
        pool="none",
        **asdict(recipe),
        engine=forward.name if forward else TORCH,
    )
    return Trunk([spec], module, device, forward=forward)


class _Logits(nn.Module):
    """A network as trunks are: a dictionary of its one node."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        return {LOGITS: self.network(images)}
