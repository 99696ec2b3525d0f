"""A network to be trained: a backbone up to its node, and a classifier on what that gives.

From scratch, a network without norms is trained with a batch norm after each convolution. It goes into the convolution
when the trunk is exported: what comes out is the plain network, in torchvision's names.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils import fuse_conv_bn_eval

from features.errors import first_line
from features.trunk.backbone import Backbone, State
from features.trunk.pooling import pool_output, resolve_pool
from models.errors import SettingsError

HEAD_STD = 0.01
"""Standard deviation of the head's first weights: so small that the classes begin alike."""

NORMS = (_BatchNorm, nn.LayerNorm, nn.GroupNorm)


class NormedConv(nn.Sequential):
    """A convolution and the batch norm after it, in place of the convolution alone."""

    def __init__(self, convolution: nn.Conv2d) -> None:
        super().__init__(convolution, nn.BatchNorm2d(convolution.out_channels))

    def folded(self) -> nn.Conv2d:
        """The convolution that alone computes what both do in eval mode."""
        convolution, norm = self
        assert isinstance(convolution, nn.Conv2d)
        assert isinstance(norm, nn.BatchNorm2d)
        return fuse_conv_bn_eval(convolution, norm)


class Network(nn.Module):
    """`trunk` to the backbone's node, and `head`, a classifier on what that gives; `backbone` shares weights.

    A map is pooled over its places by `pool` (see `pooling`). `hidden` units, if any, make the head two dense layers,
    half of the units dropped, instead of one. `image_size` is that of images that the backbone can take, the first
    weights of what is no trunk are drawn from `seed`. A network that is `taught` has a `regressor` (FitNets), which
    predicts a teacher's features.
    """

    def __init__(
        self,
        backbone: Backbone,
        classes: int,
        *,
        image_size: int,
        seed: int,
        pool: str = "avg",
        hidden: int = 0,
        taught: bool = False,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.classes = classes
        self.trunk = backbone.cut([backbone.node])
        self._frozen: tuple[nn.Module, ...] = ()
        blank = backbone.outputs_of_blank(self.eval().trunk, image_size)[backbone.node]
        self.pool = resolve_pool(pool, blank.shape[1:])
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.head = _head(pool_output(blank, self.pool).shape[1], hidden, classes)
            self.regressor = nn.Linear(blank.shape[1], blank.shape[1]) if taught else None

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits (n, classes) of normalised images (n, 3, s, s) float32."""
        return self.classify(self.features(images))

    def features(self, images: torch.Tensor) -> torch.Tensor:
        """What the trunk gives for normalised images: (n, c) or (n, c, …)."""
        features: torch.Tensor = self.trunk(images)[self.backbone.node]
        return features

    def classify(self, features: torch.Tensor) -> torch.Tensor:
        """Logits (n, classes) of what the trunk gives."""
        logits: torch.Tensor = self.head(pool_output(features, self.pool))
        return logits

    def predict_teacher(self, features: torch.Tensor) -> torch.Tensor:
        """What a teacher would give, (n, …, c) and normalised, from what the trunk gives."""
        assert self.regressor is not None, "a network that is taught"
        predicted: torch.Tensor = self.regressor(features.movedim(1, -1))
        return predicted

    @torch.inference_mode()
    def check_first_size(self, first_size: int | None, image_size: int) -> None:
        """Raise SettingsError where training cannot begin with images of `first_size` px and end at `image_size`."""
        if first_size is None:
            return
        if first_size > image_size:
            raise SettingsError(f"`first_size={first_size}` is above `image_size={image_size}`: expected at most that")
        try:
            self(torch.zeros(1, 3, first_size, first_size))
        except (RuntimeError, AssertionError) as error:  # too small for a layer, or fewer features than the head takes
            raise SettingsError(
                f"`first_size={first_size}` does not suit {self.backbone.name} at `image_size={image_size}` "
                f"({first_line(error)}): give a larger one, or none"
            ) from error

    def children_of_trunk(self) -> list[str]:
        """The names of the network's children that the trunk is made of, in order, those of `features` one by one."""
        named = [
            f"{name}.{inner}" if name == "features" else name
            for name, child in self.backbone.network.named_children()
            for inner, _ in (child.named_children() if name == "features" else [("", child)])
        ]
        of_trunk = {name for name, _ in self.trunk.named_modules()}
        return [name for name in named if name in of_trunk]

    def freeze(self, children: Sequence[str]) -> None:
        """Let these of the trunk's children stay as they are, batch-norm statistics too; the others are trained.

        What is in no child, such as a class token, comes before them all and stays with the first.
        """
        self.requires_grad_(True)
        self._frozen = tuple(self.trunk.get_submodule(name).requires_grad_(False) for name in children)
        prefixes = tuple(f"{name}." for name in self.children_of_trunk())
        for name, parameter in self.trunk.named_parameters():
            if not name.startswith(prefixes):
                parameter.requires_grad_(not children)

    def train(self, mode: bool = True) -> Network:
        """As any module, but what is frozen stays in eval mode, in which batch norms learn nothing."""
        super().train(mode)
        for module in self._frozen:
            module.eval()
        return self


def _head(dim: int, hidden: int, classes: int) -> nn.Module:
    last = nn.Linear(hidden or dim, classes)
    nn.init.normal_(last.weight, std=HEAD_STD)
    nn.init.zeros_(last.bias)
    return nn.Sequential(nn.Linear(dim, hidden), nn.ReLU(), nn.Dropout(0.5), last) if hidden else last


def add_norms(network: nn.Module, seed: int) -> None:
    """Put a batch norm after each convolution of `network`, in place, unless it has norms of its own.

    The convolutions' biases, which the norms take away, go; their weights are drawn anew, as torchvision draws those of
    its networks with norms: AlexNet's own, several times smaller, would learn in far too large steps.
    """
    if any(isinstance(module, NORMS) for module in network.modules()):
        return
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for name, module in list(network.named_modules()):
            if type(module) is nn.Conv2d:  # others normalise their weights themselves
                module.bias = None
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
                network.set_submodule(name, NormedConv(module))


def decayed(module: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Parameter groups of what in `module` is to be trained: weights decay, biases and norms do not."""
    parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
    return [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]


def exported_trunk(backbone: Backbone, dtype: torch.dtype = torch.float16) -> State:
    """The tensors that the backbone's node needs, as torchvision names them: norms folded, floats as `dtype`."""
    plain = copy.copy(backbone)
    plain.network = copy.deepcopy(backbone.network).cpu().eval()
    for name, module in list(plain.network.named_modules()):
        if isinstance(module, NormedConv):
            plain.network.set_submodule(name, module.folded())
    state = plain.cut([plain.node]).state_dict()
    return {
        name: (tensor.to(dtype) if tensor.is_floating_point() else tensor).contiguous()
        for name, tensor in state.items()
    }
