"""A whole network as a classifier: its weights on disk, and the network as a trunk that ends in its logits.

So the loop that makes feature tables makes its predictions as well, and what it says of test images is a table.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import safetensors.torch
import torch
from numpy.typing import NDArray
from scipy.special import softmax
from torch import nn

from features.devices import resolve_precision
from features.errors import first_line
from features.trunk.backbone import State
from features.trunk.loaded import freeze, open_backbone
from features.trunk.recipe import Recipe
from features.trunk.spec import FROM_SCRATCH, RETRAINED, TrunkSpec
from features.trunk.trunk import Trunk
from features.trunk.weights import state_sha256
from models.errors import ClassifierError
from models.heads.head import Classifier, JsonObject, Probabilities
from models.networks.network import Network, exported_trunk
from models.networks.settings import NETWORK

LOGITS = "logits"
"""The node of a network that its head's output is."""


class NetworkClassifier(Classifier):
    """A network with its head, retrained or as published; the features that `predict_proba` takes are its logits."""

    name = NETWORK
    suffixes: ClassVar[tuple[str, ...]] = (".safetensors",)

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
        """See Classifier."""
        return {**self.settings, "seed": self.seed}

    def predict_proba(self, x: NDArray[np.float32]) -> Probabilities:
        """See Classifier."""
        return softmax(x.astype(np.float32), axis=1)

    def save(self, path: Path, suffix: str) -> None:
        """See Classifier."""
        path.write_bytes(safetensors.torch.save(self.state))

    def restore(self, path: Path) -> None:
        """See Classifier."""
        self.state = safetensors.torch.load_file(path)

    def trunk(self, device: torch.device) -> Trunk:
        """The network as a frozen trunk whose one node gives its logits; raises ClassifierError for other weights."""
        settings = self.settings
        name, precision = settings["backbone"], resolve_precision(settings["training"]["precision"], device)
        recipe = Recipe.from_json(settings["recipe"])
        network = Network(
            open_backbone(name, 0),
            len(self.classes_),
            image_size=recipe.image_size,
            seed=0,
            pool="auto",
            hidden=settings["hidden"],
        )
        try:
            network.load_state_dict(self.state)
        except RuntimeError as error:
            raise ClassifierError(
                f"the weights are not those of {name} with its head ({first_line(error)}): train it again"
            ) from error
        weights = RETRAINED if settings["pretrained"] else FROM_SCRATCH
        return logits_trunk(network, name, weights, recipe, precision, device)


def logits_trunk(
    network: nn.Module, backbone: str, weights: str, recipe: Recipe, precision: str, device: torch.device
) -> Trunk:
    """A network that gives logits as a frozen trunk of that one node; `backbone` and `weights` are their names."""
    module = freeze(_Logits(network))
    spec = TrunkSpec(
        backbone=backbone,
        weights=weights,
        weights_sha256=state_sha256(module),
        seed=None,
        node=LOGITS,
        pool="none",
        **asdict(recipe),
        precision=precision,
    )
    return Trunk([spec], module, device)


class _Logits(nn.Module):
    """A network as trunks are: a dictionary of its one node."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        return {LOGITS: self.network(images)}
