"""A retrained network as a classifier: its weights on disk, and the network as a trunk that ends in its logits.

So the loop that makes feature tables makes its predictions as well, and what it says of test images is a table.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import safetensors.torch
import torch
from numpy.typing import NDArray
from scipy.special import softmax
from torch import nn

from features.backbones import open_backbone
from features.errors import first_line
from features.spec import TrunkSpec
from features.trunks import Trunk, freeze, warn_if_emulated
from features.weights import state_sha256
from models.base import Classifier, Probabilities
from models.errors import ClassifierError
from models.network import Network, State, exported_trunk

LOGITS = "logits"
"""The node of a network that its head's output is."""

RETRAINED = "retrained"
"""The weights of a network that has learnt here, in a TrunkSpec."""


class FinetunedNetwork(Classifier):
    """A network with its head; the features that `predict_proba` takes are the logits that `trunk` gives."""

    name: ClassVar[str] = "finetune"
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

    def parameters(self) -> dict[str, Any]:
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

    def trunk(self, spec: TrunkSpec, device: torch.device) -> Trunk:
        """The network as a frozen trunk whose one node gives its logits.

        Backbone, precision and preparation of images are those of `spec`. Raises ClassifierError for other weights.
        """
        warn_if_emulated(spec.precision, device)
        backbone, classes = open_backbone(spec.backbone, 0), len(self.classes_)
        hidden = int(self.settings["hidden"])
        network = Network(backbone, classes, image_size=spec.image_size, seed=0, pool="auto", hidden=hidden)
        try:
            network.load_state_dict(self.state)
        except RuntimeError as error:
            raise ClassifierError(
                f"the weights are not those of {spec.backbone} with its head ({first_line(error)}): train it again"
            ) from error
        return logits_trunk(network, spec, device)


def logits_trunk(network: nn.Module, spec: TrunkSpec, device: torch.device) -> Trunk:
    """A network that gives logits as a frozen trunk of that one node; `spec` says all but its weights' SHA-256."""
    module = freeze(_Logits(network))
    return Trunk([replace(spec, weights_sha256=state_sha256(module), node=LOGITS, pool="none")], module, device)


class _Logits(nn.Module):
    """A network as trunks are: a dictionary of its one node."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        return {LOGITS: self.network(images)}
