"""Which device the tensors live on. A GPU asked for and absent is an error, never a silent CPU."""

from __future__ import annotations

import torch

from features.errors import DeviceError


def resolve_device(name: str) -> torch.device:
    """Turn `auto`, `cpu`, `cuda` or `cuda:N` into a device that exists here; raises DeviceError."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    kind, _, index = name.partition(":")
    if kind not in ("cpu", "cuda") or (index and not index.isdecimal()) or (kind == "cpu" and index):
        raise DeviceError(f"unknown device {name!r}: expected auto, cpu, cuda or cuda:N")
    if kind == "cuda" and int(index or 0) >= torch.cuda.device_count():
        raise DeviceError(
            f"device {name!r} asked for, but {torch.cuda.device_count()} CUDA GPUs were found here: "
            "use --device cpu, or check the driver with nvidia-smi"
        )
    return torch.device(name)
