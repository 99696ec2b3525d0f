"""A trunk's weights: torchvision's own, a file's, bundled or random ones, checked before they are used."""

from __future__ import annotations

import hashlib
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import nn

from features.errors import TrunkError, first_line
from features.storage import file_sha256
from features.trunk.spec import AUTO_WEIGHTS, NAMED_WEIGHTS

State = dict[str, torch.Tensor]

SHOWN_KEYS = 6
"""How many keys of a mismatch an error lists before it says how many more there are."""


def cached_path(url: str) -> Path:
    """Where torchvision keeps the weights that it has downloaded from `url`."""
    return Path(torch.hub.get_dir(), "checkpoints", url.rsplit("/", 1)[-1])


def downloaded_state(url: str) -> State:
    """Torchvision's weights from its cache, downloaded where absent; the hash in the file's name is checked."""
    path = cached_path(url)
    prefix = path.name.rsplit("-", 1)[-1].split(".")[0]
    if not path.exists():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(url, str(path), hash_prefix=prefix)
        except (OSError, RuntimeError) as error:
            raise TrunkError(
                f"the imagenet weights are not at {path} and could not be downloaded ({error}): "
                "put the file there, or give --weights FILE"
            ) from error
    if not file_sha256(path).startswith(prefix):
        raise TrunkError(f"{path} is damaged (its SHA-256 does not begin with {prefix}): delete it and run again")
    state: State = torch.load(path, map_location="cpu", weights_only=True)
    return state


def file_state(path: Path) -> State:
    """The tensors of a .safetensors file, or of a .pth or .pt file that holds nothing else; raises TrunkError."""
    if not path.is_file():
        expected = ", ".join((AUTO_WEIGHTS, *NAMED_WEIGHTS))
        raise TrunkError(f"unknown weights {str(path)!r}: expected {expected}, or a .safetensors or .pth file")
    try:
        if path.suffix == ".safetensors":
            return safetensors.torch.load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged zip, a pickle of something else, a cut header: each has its own class
        raise TrunkError(
            f"cannot read weights from {path} ({first_line(error)}): expected .safetensors, or .pth of tensors"
        ) from error
    if not isinstance(state, dict) or not all(_is_named_tensor(entry) for entry in state.items()):
        raise TrunkError(f"{path} is not a plain dictionary of tensors: save the model's state_dict()")
    return dict(state)


def _is_named_tensor(entry: tuple[object, object]) -> bool:
    return isinstance(entry[0], str) and isinstance(entry[1], torch.Tensor)


def load_into(trunk: nn.Module, state: State, *, whole_model: State, where: str) -> None:
    """Load a whole model's or only the trunk's tensors; raises TrunkError that lists the keys that do not fit.

    `whole_model` is the state of the network that `trunk` was cut from: its other keys may be there as well.
    """
    needed = trunk.state_dict()
    missing = [key for key in needed if key not in state and not key.endswith("num_batches_tracked")]
    unexpected = [key for key in state if key not in whole_model]
    shapes = [
        f"{key} {tuple(state[key].shape)} for {tuple(needed[key].shape)}"
        for key in needed
        if key in state and state[key].shape != needed[key].shape
    ]
    if missing or unexpected or shapes:
        wrong = (("missing", missing), ("unexpected", unexpected), ("of another shape", shapes))
        what = "; ".join(f"{kind}: {_shorten(keys)}" for kind, keys in wrong if keys)
        raise TrunkError(f"the weights in {where} do not fit ({what}): choose the backbone and node they were made for")
    trunk.load_state_dict({key: state[key] for key in needed if key in state}, strict=False)


def state_sha256(module: nn.Module) -> str:
    """SHA-256 of every parameter and buffer: name, dtype, shape and bytes."""
    sha = hashlib.sha256()
    for key, tensor in sorted(module.state_dict().items()):
        sha.update(f"{key} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        sha.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return sha.hexdigest()


def _shorten(keys: list[str]) -> str:
    more = f" and {len(keys) - SHOWN_KEYS} more" if len(keys) > SHOWN_KEYS else ""
    return ", ".join(keys[:SHOWN_KEYS]) + more
