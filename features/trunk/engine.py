"""What computes a frozen network: torch, or ONNX Runtime, which is faster for many on the CPU and gives the same there.

The network is exported when it is opened, which takes half a second, and its outputs are held against torch's. What
cannot be exported, or disagrees, torch computes.
"""

from __future__ import annotations

import logging
import tempfile
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from features.devices import has_cpu_bf16, resolve_precision
from features.errors import TrunkError, first_line
from features.trunk.spec import AUTO, TrunkOptions

logger = logging.getLogger(__name__)

TORCH, ONNXRUNTIME = "torch", "onnxruntime"

ENGINES = (AUTO, TORCH, ONNXRUNTIME)

TOLERANCE = 1e-3
"""How far an output may be from torch's, as a share of the largest."""

OPSET = 18

_IMAGES = "images"


class OnnxForward:
    """A network in ONNX Runtime: (n, 3, s, s) float32 to a dictionary of node to output, as its torch module gives it.

    Each call computes in the thread that makes it, several at a time.
    """

    def __init__(self, model: bytes, nodes: Sequence[str]) -> None:
        import onnxruntime  # not all trunks are computed by it

        self.name = f"{ONNXRUNTIME} {onnxruntime.__version__}"
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        self._model, self._nodes = model, tuple(nodes)

    def __reduce__(self) -> tuple[type[OnnxForward], tuple[bytes, tuple[str, ...]]]:
        return OnnxForward, (self._model, self._nodes)

    def __call__(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        found = self._session.run(None, {_IMAGES: images.contiguous().numpy()})
        return {node: torch.from_numpy(output) for node, output in zip(self._nodes, found, strict=True)}


def choose_engine(options: TrunkOptions, module: nn.Module, device: torch.device) -> tuple[str, str]:
    """The engine and the precision that `options` mean here; raises TrunkError for what cannot be had together.

    On the CPU `auto` is ONNX Runtime in fp32, unless another precision or a compiled network was asked for, or the CPU
    has bfloat16 in hardware, where torch is faster for all networks but those with depthwise convolutions.
    """
    if options.engine not in ENGINES:
        raise TrunkError(f"unknown `engine={options.engine}`: expected one of {', '.join(ENGINES)}")
    exact = options.precision == "fp32" or (options.precision == AUTO and (not has_cpu_bf16() or _is_depthwise(module)))
    suits = device.type == "cpu" and not options.compiled
    if options.engine == ONNXRUNTIME and not (suits and options.precision in (AUTO, "fp32")):
        raise TrunkError(
            f"`engine=onnxruntime` computes in fp32 on the CPU, not compiled, but `precision={options.precision}` and "
            f"`compiled={options.compiled}` on {device} came: leave these, or give `engine=torch`"
        )
    if options.engine == ONNXRUNTIME or (options.engine == AUTO and suits and exact):
        return ONNXRUNTIME, "fp32"
    return TORCH, resolve_precision(options.precision, device)


def onnx_forward(module: nn.Module, nodes: Sequence[str], image_size: int) -> OnnxForward | None:
    """`module` in ONNX Runtime; None, and a warning, where that cannot be done or gives other outputs than torch."""
    images = torch.rand(3, 3, image_size, image_size, generator=torch.Generator().manual_seed(0)) * 4 - 2
    try:
        fewer = images[:2]  # lest their number be fixed unseen
        forward = OnnxForward(exported(module, fewer, dict.fromkeys((_IMAGES, *nodes), ("n",))), nodes)
        found = forward(images)
    except Exception as error:  # exporter and runtime have many of their own
        logger.warning("ONNX Runtime cannot take this network (%s): torch computes it", first_line(error))
        return None
    with torch.inference_mode():
        expected: dict[str, torch.Tensor] = module(images)
    off = max(_distance(found[node], expected[node]) for node in nodes)
    if off > TOLERANCE:
        logger.warning("ONNX Runtime is off by %.1e of the largest feature: torch computes this network", off)
        return None
    return forward


def exported(module: nn.Module, images: torch.Tensor, values: Mapping[str, Sequence[str]]) -> bytes:
    """`module`, which takes such images, as ONNX.

    `values` are the input and the outputs by name, with the names of the first axes of each, which may be of any
    length.
    """
    first, *outputs = values
    unwarned = warnings.catch_warnings(action="ignore")  # of what tracing fixes: sizes, which are fixed here
    with tempfile.TemporaryDirectory() as folder, unwarned, torch.no_grad(), _exporting():
        path = Path(folder, "network.onnx")
        torch.onnx.export(
            module,
            (images,),
            path,
            input_names=[first],
            output_names=outputs,
            dynamic_axes={name: dict(enumerate(axes)) for name, axes in values.items()},
            opset_version=OPSET,
            dynamo=False,
        )
        return path.read_bytes()


@contextmanager
def _exporting() -> Iterator[None]:
    """Attention is not fused, for which ONNX has no name; no graph that fails is printed, hundreds of lines of it."""
    fused, dump = torch.backends.mha.get_fastpath_enabled(), torch._C._jit_onnx_log
    torch.backends.mha.set_fastpath_enabled(False)
    torch._C._jit_onnx_log = lambda *_: None
    try:
        with _FixedMaps():
            yield
    finally:
        torch._C._jit_onnx_log = dump
        torch.backends.mha.set_fastpath_enabled(fused)


class _FixedMaps(TorchFunctionMode):
    """Makes the height and width of maps numbers where a network is traced, which it would else compute each time.

    Padding that depends on them, as EfficientNets have it, then is ONNX Runtime's convolutions' own: a quarter less
    time for these.
    """

    def __torch_function__(
        self,
        func: Callable[..., object],
        types: Iterable[type],
        args: tuple[object, ...] = (),
        kwargs: dict[str, object] | None = None,
    ) -> object:
        found = func(*args, **(kwargs or {}))
        if isinstance(found, torch.Size) and len(found) == 4:
            return (*found[:2], int(found[2]), int(found[3]))
        return found


def _distance(found: torch.Tensor, expected: torch.Tensor) -> float:
    """The largest difference, as a share of the largest value; infinite for other shapes or what is not finite."""
    if found.shape != expected.shape or not np.isfinite(found.numpy()).all():
        return float("inf")
    return float((found - expected).abs().max() / expected.abs().max().clamp(min=torch.finfo(torch.float32).tiny))


def _is_depthwise(module: nn.Module) -> bool:
    """Whether a network has convolutions of one channel each."""
    return any(isinstance(layer, nn.Conv2d) and layer.groups == layer.in_channels > 1 for layer in module.modules())
