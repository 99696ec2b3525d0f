"""Which device the tensors live on, and in which arithmetic. A GPU asked for and absent is an error, never a CPU."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import torch

from features.errors import DeviceError

logger = logging.getLogger(__name__)

CORES_PER_WRITER = 4

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


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
            "use `device=cpu`, or check the driver with nvidia-smi"
        )
    return torch.device(name)


def resolve_precision(name: str, device: torch.device) -> str:
    """Turn `auto` into the fastest of `fp32`, `bf16` and `fp16` that `device` computes in hardware; others stay.

    Raises DeviceError for an unknown name. A precision that the hardware lacks is emulated, many times slower: a
    warning says so.
    """
    if name != "auto":
        if name not in PRECISIONS:
            raise DeviceError(f"unknown precision {name!r}: expected auto, {', '.join(PRECISIONS)}")
        if device.type == "cpu" and name != "fp32" and not has_cpu_bf16():
            _warn_of_emulation(name)
        return name
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    return "bf16" if has_cpu_bf16() else "fp32"


@cache
def _warn_of_emulation(precision: str) -> None:
    """Say it once, however many networks a run has."""
    logger.warning("this CPU has no %s arithmetic: it will be many times slower than fp32", precision)


def has_cpu_bf16() -> bool:
    """Whether this CPU multiplies bfloat16 in hardware (AVX-512 BF16 or AMX); False where torch cannot tell."""
    known: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()  # torch 2.12 has it
    return bool(known.get("avx512_bf16") or known.get("amx_bf16"))


def usable_cores() -> int:
    """The cores that this process may use; all of the machine's where the system does not tell (not on Linux)."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def worker_count(device: torch.device) -> int:
    """Threads that work at once: as many as torch would use on the CPU, one for each core beside a GPU."""
    return torch.get_num_threads() if device.type == "cpu" else usable_cores()


def writer_count(device: torch.device) -> int:
    """Threads that write shards: one writes what about as many cores can extract."""
    return max(1, worker_count(device) // CORES_PER_WRITER)


def forwards_at_once(device: torch.device) -> int:
    """How many batches the device computes at a time: one a core, or two on a GPU, so that copies overlap."""
    return worker_count(device) if device.type == "cpu" else 2


@contextmanager
def exact_float32() -> Iterator[None]:
    """Let fp32 mean the same on every device: no TensorFloat-32. The switch is the whole process's, threads and all."""
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        yield


def to_device(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Copy to `device`, through page-locked memory and without waiting where that is a GPU."""
    if device.type == "cuda" and not tensor.is_cuda:
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)


def to_host(tensor: torch.Tensor) -> torch.Tensor:
    """Copy to main memory, through page-locked memory where it comes from a GPU."""
    if not tensor.is_cuda:
        return tensor
    host = torch.empty_like(tensor, device="cpu", pin_memory=True).copy_(tensor, non_blocking=True)
    torch.cuda.current_stream(tensor.device).synchronize()
    return host


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether a device had no memory left; on the CPU that is a RuntimeError like any other."""
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)
