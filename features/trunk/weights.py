"""Where a network's weights come from: its own package, this project, a file, or chance; checked before they are used.

Weights own their preprocessing: loading them gives the recipe that they want images prepared by. After torchvision's
`models/_api.py`.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import nn

from features.errors import TrunkError, first_line, some
from features.trunk.backbone import Backbone, State, say_license
from features.trunk.bundled import bundled_state, is_bundled
from features.trunk.recipe import Recipe
from features.trunk.spec import AUTO, BUNDLED, IMAGENET, NAMED_WEIGHTS, RANDOM


@dataclass(frozen=True)
class Weights:
    """A network's weights, by `name`; those of a `file` are called as it is.

    >>> Weights.parse("imagenet").pretrained, Weights.parse("random").pretrained
    (True, False)
    >>> Weights.parse("of/mine.safetensors").name
    'mine.safetensors'
    """

    name: str
    file: Path | None = None

    @classmethod
    def parse(cls, text: str) -> Weights:
        """The weights that a person means: `auto`, one of NAMED_WEIGHTS, or a file's path."""
        return cls(text) if text in (AUTO, *NAMED_WEIGHTS) else cls(Path(text).name, Path(text))

    @property
    def reopen(self) -> str:
        """What `parse` takes to mean the same from any folder: a name or an absolute path."""
        return str(self.file.resolve()) if self.file else self.name

    @property
    def pretrained(self) -> bool:
        """Whether anything was learnt before."""
        return self.name != RANDOM or self.file is not None

    def chosen_for(self, backbone: Backbone) -> Weights:
        """For `auto`, the published ones if they need no download, else ours, else random ones; others as they are.

        Raises TrunkError where a backbone has none and random ones are to be asked for.
        """
        if self != Weights(AUTO):
            return self
        if backbone.is_cached():
            return Weights(IMAGENET)
        if is_bundled(backbone.name):
            return Weights(BUNDLED)
        if not backbone.random_unasked:
            raise TrunkError(
                f"no weights of {backbone.name} are on this machine: give `weights=imagenet` to download them, a file, "
                "or random, which is no transfer learning"
            )
        return Weights(RANDOM)

    def load(self, backbone: Backbone, module: nn.Module) -> Recipe:
        """Load these into `module`, the backbone's network or a part of it; returns the recipe that goes with them.

        Raises TrunkError for weights that are not there, are damaged or do not fit.
        """
        if not self.pretrained:
            return backbone.recipe
        if self.file:
            state, recipe = file_state(self.file), backbone.recipe
        elif self.name == BUNDLED:
            state, recipe = bundled_state(backbone.name)
        else:
            state, recipe = backbone.published()
            say_license(backbone.name, backbone.origin.license)
        load_into(module, state, backbone, where=str(self.file or f"the {self.name} file"))
        return recipe


def file_state(path: Path) -> State:
    """The tensors of a .safetensors file, or of a .pth or .pt file that holds nothing else; raises TrunkError."""
    if not path.is_file():
        expected = ", ".join((AUTO, *NAMED_WEIGHTS))
        raise TrunkError(f"unknown weights {str(path)!r}: expected {expected}, or a .safetensors or .pth file")
    try:
        if path.suffix == ".safetensors":
            return safetensors.torch.load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged zip, a pickle of something else, a cut header: each has its own class
        raise TrunkError(
            f"cannot read weights from {path} ({first_line(error)}): expected .safetensors, or .pth of tensors"
        ) from error
    if not isinstance(state, dict) or not all(
        isinstance(name, str) and isinstance(tensor, torch.Tensor) for name, tensor in state.items()
    ):
        raise TrunkError(f"{path} is not a plain dictionary of tensors: save the model's state_dict()")
    return dict(state)


def load_into(module: nn.Module, state: State, backbone: Backbone, *, where: str) -> None:
    """Load a whole model's or only the module's tensors; raises TrunkError that lists the keys that do not fit.

    `module` was cut from the backbone's network, whose other tensors may be there as well.
    """
    needed = module.state_dict()
    missing = [key for key in needed if key not in state and not key.endswith("num_batches_tracked")]
    known = backbone.network.state_dict()
    unexpected = [key for key in state if key not in known and not backbone.is_of_classifier(key)]
    shapes = [
        f"{key} {tuple(state[key].shape)} for {tuple(needed[key].shape)}"
        for key in needed
        if key in state and state[key].shape != needed[key].shape
    ]
    if missing or unexpected or shapes:
        wrong = (("missing", missing), ("unexpected", unexpected), ("of another shape", shapes))
        what = "; ".join(f"{kind}: {some(keys)}" for kind, keys in wrong if keys)
        raise TrunkError(f"the weights in {where} do not fit ({what}): choose the backbone and node they were made for")
    module.load_state_dict({key: state[key] for key in needed if key in state}, strict=False)


def state_sha256(module: nn.Module) -> str:
    """SHA-256 of every parameter and buffer: name, dtype, shape and bytes."""
    sha = hashlib.sha256()
    for key, tensor in sorted(module.state_dict().items()):
        sha.update(f"{key} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        sha.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return sha.hexdigest()
