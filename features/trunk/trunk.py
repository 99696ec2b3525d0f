"""Frozen trunks: a backbone cut at one or more nodes, with the weights and preprocessing that decide its features."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from itertools import groupby
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn.utils import convert_conv2d_weight_memory_format

from features.devices import PRECISIONS, exact_float32, resolve_precision, to_device, to_host
from features.errors import TrunkError
from features.sources.nvjpeg import check_nvjpeg
from features.timing import Stopwatch
from features.trunk.engine import ONNXRUNTIME, TORCH, OnnxForward, choose_engine, onnx_forward
from features.trunk.loaded import Loaded, open_network
from features.trunk.pooling import pool_output, resolve_pool
from features.trunk.recipe import normalise, to_square
from features.trunk.spec import NetworkOptions, TrunkOptions, TrunkSpec

logger = logging.getLogger(__name__)

DECODERS = ("pillow", "nvjpeg")

BATCH_BYTES = {"cpu": 2**26, "cuda": 2**31}
"""Bytes that the activations of one batch may take at once, by device."""

MOST_IMAGES = {"cpu": 16, "cuda": 256}
"""Larger batches are no faster: on the CPU these fit its caches."""

FLOAT16_MAX = torch.finfo(torch.float16).max


class Trunk:
    """A frozen network up to one or more nodes, one spec each; `dims` are the lengths of their feature vectors.

    `compute` gives the outputs by node of a normalised batch, by `forward` where that is given, else by `module`;
    `batch_images` is how many images it should be given at once. Several threads may use it at a time.
    """

    def __init__(
        self,
        specs: Sequence[TrunkSpec],
        module: nn.Module,
        device: torch.device,
        forward: OnnxForward | None = None,
    ) -> None:
        self.specs = tuple(specs)
        self.spec = self.specs[0]
        self.device = device
        self.module = convert_conv2d_weight_memory_format(module.to(device), torch.channels_last)
        self.compute: nn.Module | OnnxForward = self.module
        blank = torch.zeros(1, 3, self.spec.image_size, self.spec.image_size, dtype=torch.uint8)
        with _activation_bytes(self.module) as bytes_of_one, exact_float32():
            self.dims = tuple(vectors.shape[1] for vectors in self.forward(blank))
        self.batch_images = _batch_images(max(bytes_of_one), device)
        if self.spec.compiled:
            self.compute = cast("nn.Module", torch.compile(self.module))
        elif forward:
            self.compute = forward

    def prepare(self, images: torch.Tensor) -> torch.Tensor:
        """Resize and crop on the images' own device: (…, 3, h, w) to (…, 3, image_size, image_size), uint8."""
        spec = self.spec
        return to_square(images, resize=spec.resize, size=spec.image_size, interpolation=spec.interpolation)

    @torch.inference_mode()
    def forward(self, images: torch.Tensor, watch: Stopwatch | None = None) -> list[NDArray[np.float16]]:
        """Features of prepared images: (n, 3, image_size, image_size) uint8 to one (n, dim) float16 array a node.

        Raises TrunkError where they do not fit float16.
        """
        watch = watch or Stopwatch(self.device)
        with watch("copy"):
            images = to_device(images, self.device)
        with watch("transform"):
            batch = normalise(images, self.spec.mean, self.spec.std)
        dtype = PRECISIONS[self.spec.precision]
        with watch("forward"), torch.autocast(self.device.type, dtype, enabled=dtype != torch.float32):
            outputs: dict[str, torch.Tensor] = self.compute(batch)
            vectors = [self._vector(spec, outputs[spec.node]) for spec in self.specs]
        with watch("copy"):
            return [to_host(vector).numpy() for vector in vectors]

    def _vector(self, spec: TrunkSpec, output: torch.Tensor) -> torch.Tensor:
        pooled = pool_output(output.float(), spec.pool)
        if not pooled.abs().amax() <= FLOAT16_MAX:
            raise TrunkError(
                f"features at node {spec.node!r} do not fit float16 (infinite or not a number): choose another `node`"
            )
        return pooled.half()


def build_trunk(options: TrunkOptions, device: torch.device, *, seed: int = 0) -> Trunk:
    """Open one network and make a frozen trunk of it; raises TrunkError as `open_network` and `cut_trunk` do."""
    return cut_trunk(open_network(options, node=options.node, seed=seed), options, device)


def build_trunks(options: TrunkOptions, device: torch.device, *, seed: int = 0) -> tuple[Trunk, ...]:
    """As `build_trunk`, of each network that `options` name."""
    return tuple(build_trunk(one, device, seed=seed) for one in options.each())


def cut_trunk(loaded: Loaded, options: TrunkOptions, device: torch.device) -> Trunk:
    """Make a frozen trunk of an opened network; raises TrunkError for a pooling or decoder that does not work here."""
    _check_decoder(options.decoder, device)
    blank = loaded.backbone.outputs_of_blank(loaded.module, loaded.recipe.image_size)
    engine, precision = choose_engine(options, loaded.module, device)
    forward = onnx_forward(loaded.module, loaded.nodes, loaded.recipe.image_size) if engine == ONNXRUNTIME else None
    if engine == ONNXRUNTIME and not forward:
        precision = resolve_precision(options.precision, device)
    specs = [
        TrunkSpec(
            backbone=loaded.backbone.name,
            weights=loaded.weights.name,
            weights_sha256=loaded.sha256(node),
            seed=None if loaded.weights.pretrained else loaded.seed,
            node=node,
            pool=resolve_pool(options.pool, blank[node].shape[1:]),
            **asdict(loaded.recipe),
            precision=precision,
            engine=forward.name if forward else TORCH,
            compiled=options.compiled,
            decoder=options.decoder,
            **asdict(loaded.origin),
        )
        for node in loaded.nodes
    ]
    return Trunk(specs, loaded.module, device, forward)


def rebuild_trunks(specs: Sequence[TrunkSpec], *, weights: str, device: torch.device) -> tuple[Trunk, ...]:
    """Build the very trunks that `specs` describe, one a network, from `weights` as TrunkOptions has them.

    Raises TrunkError where these are others.
    """
    networks = {name: list(of_one) for name, of_one in groupby(specs, lambda spec: spec.backbone)}
    asked = TrunkOptions(backbone=",".join(networks), weights=weights).each()
    return tuple(rebuild_trunk(networks[one.backbone], weights=one.weights, device=device) for one in asked)


def rebuild_trunk(specs: Sequence[TrunkSpec], *, weights: str, device: torch.device) -> Trunk:
    """Build the very trunk that `specs` describe, from `weights`; raises TrunkError if they are others."""
    if specs[0].decoder == "nvjpeg" and device.type != "cuda":
        logger.warning("its images were decoded by nvJPEG; here Pillow decodes them, and features may differ slightly")
        specs = [replace(spec, decoder="pillow") for spec in specs]
    specs = [replace(spec, compiled=False) for spec in specs]  # a minute, for the last digit of a few images
    resolve_precision(specs[0].precision, device)  # says so where it is emulated
    options = NetworkOptions(backbone=specs[0].backbone, weights=weights)
    loaded = open_network(options, node=",".join(spec.node for spec in specs), seed=specs[0].seed or 0)
    for spec in specs:
        found = loaded.sha256(spec.node)
        if found != spec.weights_sha256:
            raise TrunkError(
                f"the weights in {weights} are not the ones the classifier was trained with (SHA-256 "
                f"{found[:8]}, expected {spec.weights_sha256[:8]}): give `weights` the right file"
            )
    forward = None
    if specs[0].engine != TORCH and device.type == "cpu":
        forward = onnx_forward(loaded.module, loaded.nodes, specs[0].image_size)
    return Trunk(specs, loaded.module, device, forward)


def _check_decoder(decoder: str, device: torch.device) -> None:
    """Raise TrunkError where `device` cannot decode so."""
    if decoder not in DECODERS:
        raise TrunkError(f"unknown `decoder={decoder}`: expected {' or '.join(DECODERS)}")
    if decoder == "nvjpeg" and device.type != "cuda":
        raise TrunkError(f"`decoder=nvjpeg` needs a CUDA GPU, but the device is {device}: use `decoder=pillow`")
    if decoder == "nvjpeg":
        check_nvjpeg(device)


@contextmanager
def _activation_bytes(module: nn.Module) -> Iterator[list[int]]:
    """A list that each layer adds to, as `module` runs: the bytes that it takes and gives."""
    sizes = [1]

    def measure(_: nn.Module, inputs: tuple[object, ...], output: object) -> None:
        sizes.append(sum(value.nbytes for value in (*inputs, output) if isinstance(value, torch.Tensor)))

    hooks = [layer.register_forward_hook(measure) for layer in module.modules() if not any(layer.children())]
    try:
        yield sizes
    finally:
        for hook in hooks:
            hook.remove()


def _batch_images(bytes_of_one: int, device: torch.device) -> int:
    """How many images to take through the trunk at once, a power of two.

    It depends on nothing else, because features differ in their last digit with the batch they are computed in.
    """
    most = min(MOST_IMAGES[device.type], BATCH_BYTES[device.type] // bytes_of_one)
    return int(2 ** max(0, most.bit_length() - 1))
