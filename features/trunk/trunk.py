"""Frozen trunks: a backbone cut at one or more nodes, with the weights and preprocessing that decide its features."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn.utils import convert_conv2d_weight_memory_format

from features.devices import PRECISIONS, exact_float32, has_cpu_bf16, resolve_precision, to_device, to_host
from features.errors import TrunkError, first_line
from features.sources.nvjpeg import check_nvjpeg
from features.stopwatch import Stopwatch
from features.trunk.backbone import Backbone
from features.trunk.bundled import bundled_state, is_bundled
from features.trunk.loaded import open_backbone
from features.trunk.pooling import channels_second, pool_output, resolve_pool
from features.trunk.recipe import Recipe, normalise, to_square
from features.trunk.spec import AUTO_WEIGHTS, DEPTHS, NAMED_WEIGHTS, RANDOM_WEIGHTS, TrunkOptions, TrunkSpec
from features.trunk.weights import file_state, load_into, state_sha256

logger = logging.getLogger(__name__)

DECODERS = ("pillow", "nvjpeg")

BATCH_BYTES = {"cpu": 2**26, "cuda": 2**31}
"""Bytes that the activations of one batch may take at once, by device."""

MOST_IMAGES = {"cpu": 16, "cuda": 256}
"""Larger batches are no faster: on the CPU these fit its caches."""

FLOAT16_MAX = torch.finfo(torch.float16).max


class Trunk:
    """A frozen network up to one or more nodes, one spec each; `dims` are the lengths of their feature vectors.

    `nhwc` are the nodes whose maps have their channels last; `batch_images` is how many it should be given at once.
    Several threads may use it at a time.
    """

    def __init__(
        self, specs: Sequence[TrunkSpec], module: nn.Module, device: torch.device, *, nhwc: Collection[str] = ()
    ) -> None:
        self.specs = tuple(specs)
        self.spec = self.specs[0]
        self.device = device
        self.nhwc = nhwc
        self.module = convert_conv2d_weight_memory_format(module.to(device), torch.channels_last)
        self._forward: nn.Module = self.module
        blank = torch.zeros(1, 3, self.spec.image_size, self.spec.image_size, dtype=torch.uint8)
        with _activation_bytes(self.module) as bytes_of_one, exact_float32():
            self.dims = tuple(vectors.shape[1] for vectors in self.forward(blank))
        self.batch_images = _batch_images(max(bytes_of_one), device)
        if self.spec.compiled:
            self._forward = cast("nn.Module", torch.compile(self.module))

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
            outputs: dict[str, torch.Tensor] = self._forward(batch)
            vectors = [self._vector(spec, outputs[spec.node]) for spec in self.specs]
        with watch("copy"):
            return [to_host(vector).numpy() for vector in vectors]

    def _vector(self, spec: TrunkSpec, output: torch.Tensor) -> torch.Tensor:
        output = channels_second(output.float(), nhwc=spec.node in self.nhwc)
        pooled = pool_output(output, spec.pool)
        if not pooled.abs().amax() <= FLOAT16_MAX:
            raise TrunkError(
                f"features at node {spec.node!r} do not fit float16 (infinite or not a number): choose another --node"
            )
        return pooled.half()


def build_trunk(options: TrunkOptions, device: torch.device) -> Trunk:
    """Build a frozen trunk.

    Raises TrunkError for an unknown name, weights that do not fit, or too small an image.
    """
    backbone = open_backbone(options.backbone, options.seed)
    nodes = _nodes(options, backbone)
    module = freeze(backbone.cut(nodes))
    weights = choose_weights(options.weights, backbone)
    recipe = load_weights(module, backbone, weights).at(options.image_size)
    check_image_size(recipe.image_size, backbone)
    _check_decoder(options.decoder, device)
    outputs = outputs_of_blank(module, backbone, recipe.image_size)
    nhwc = _nhwc_nodes(nodes, backbone)
    shapes = {node: channels_second(outputs[node], nhwc=node in nhwc).shape[1:] for node in nodes}
    specs = [
        TrunkSpec(
            backbone=options.backbone,
            weights=weights if weights in NAMED_WEIGHTS else Path(weights).name,
            weights_sha256=state_sha256(module if len(nodes) == 1 else backbone.cut([node])),
            seed=options.seed if weights == RANDOM_WEIGHTS else None,
            node=node,
            pool=resolve_pool(options.pool, shapes[node]),
            **asdict(recipe),
            precision=resolve_precision(options.precision, device),
            compiled=options.compiled,
            decoder=options.decoder,
        )
        for node in nodes
    ]
    warn_if_emulated(specs[0].precision, device)
    return Trunk(specs, module, device, nhwc=nhwc)


def rebuild_trunk(specs: Sequence[TrunkSpec], *, weights: str, device: torch.device) -> Trunk:
    """Build the very trunk that `specs` describe, from `weights`; raises TrunkError if they are others."""
    if specs[0].decoder == "nvjpeg" and device.type != "cuda":
        logger.warning("its images were decoded by nvJPEG; here Pillow decodes them, and features may differ slightly")
        specs = [replace(spec, decoder="pillow") for spec in specs]
    specs = [replace(spec, compiled=False) for spec in specs]  # a minute, for the last digit of a few images
    warn_if_emulated(specs[0].precision, device)
    backbone = open_backbone(specs[0].backbone, specs[0].seed or 0)
    module = freeze(backbone.cut([spec.node for spec in specs]))
    load_weights(module, backbone, choose_weights(weights, backbone))
    for spec in specs:
        found = state_sha256(backbone.cut([spec.node]))
        if found != spec.weights_sha256:
            raise TrunkError(
                f"the weights in {weights} are not the ones the classifier was trained with (SHA-256 "
                f"{found[:8]}, expected {spec.weights_sha256[:8]}): give the right --weights FILE"
            )
    return Trunk(specs, module, device, nhwc=_nhwc_nodes([spec.node for spec in specs], backbone))


def freeze(module: nn.Module) -> nn.Module:
    """Stop both gradients and batch-norm statistics: no parameter and no buffer changes from here on."""
    return module.eval().requires_grad_(False)


def _nodes(options: TrunkOptions, backbone: Backbone) -> tuple[str, ...]:
    nodes = options.nodes or (backbone.node,)
    if DEPTHS not in nodes:
        return tuple(dict.fromkeys(nodes))
    if len(nodes) > 1:
        raise TrunkError(f"--node {','.join(nodes)} mixes {DEPTHS} with other nodes: give {DEPTHS} alone, or the nodes")
    return backbone.depths


def choose_weights(weights: str, backbone: Backbone) -> str:
    """The weights asked for; for AUTO_WEIGHTS torchvision's if they need no download, else ours, else random ones."""
    if weights != AUTO_WEIGHTS:
        return weights
    if backbone.is_cached():
        return "imagenet"
    return "bundled" if is_bundled(backbone.name) else RANDOM_WEIGHTS


def load_weights(module: nn.Module, backbone: Backbone, weights: str) -> Recipe:
    """Load `weights` into `module`, which was cut from `backbone`; returns the preparation that goes with them."""
    if weights == RANDOM_WEIGHTS:
        return backbone.recipe
    whole = backbone.network.state_dict()
    if weights == "imagenet":
        state, recipe = backbone.published()
        load_into(module, state, whole_model=whole, where="the published file")
        return recipe
    if weights == "bundled":
        state, recipe = bundled_state(backbone.name)
        load_into(module, state, whole_model=whole, where="the bundled file")
        return recipe
    load_into(module, file_state(Path(weights)), whole_model=whole, where=weights)
    return backbone.recipe


def _check_decoder(decoder: str, device: torch.device) -> None:
    if decoder not in DECODERS:
        raise TrunkError(f"unknown decoder {decoder!r}: expected {' or '.join(DECODERS)}")
    if decoder == "nvjpeg" and device.type != "cuda":
        raise TrunkError(f"--decoder nvjpeg needs a CUDA GPU, but the device is {device}: use --decoder pillow")
    if decoder == "nvjpeg":
        check_nvjpeg(device)


def warn_if_emulated(precision: str, device: torch.device) -> None:
    """Say so where `device` has no such arithmetic in hardware."""
    if device.type == "cpu" and precision != "fp32" and not has_cpu_bf16():
        logger.warning("this CPU has no %s arithmetic: it will be many times slower than fp32", precision)


def check_image_size(image_size: int, backbone: Backbone) -> None:
    """Raise TrunkError for images that are too small for `backbone`, or not of the one size that it takes."""
    if image_size < backbone.smallest or (backbone.fixed and image_size != backbone.smallest):
        expected = f"{backbone.smallest}{'' if backbone.fixed else ' or more'}"
        raise TrunkError(f"--image-size {image_size} does not suit {backbone.name}: expected {expected}")


@torch.inference_mode()
def outputs_of_blank(module: nn.Module, backbone: Backbone, image_size: int) -> dict[str, torch.Tensor]:
    """What each node gives for one blank image: (1, d), (1, tokens, d) or a map; raises TrunkError for what else."""
    try:
        outputs: dict[str, torch.Tensor] = module(torch.zeros(1, 3, image_size, image_size))
    except (RuntimeError, AssertionError) as error:  # timm asserts the size of some networks' images
        raise TrunkError(
            f"{backbone.name} cannot take images of {image_size} px ({first_line(error)}): "
            f"give another --image-size, or none for its own {backbone.recipe.image_size}"
        ) from error
    for node, output in outputs.items():
        if not isinstance(output, torch.Tensor) or output.ndim not in (2, 3, 4):
            raise TrunkError(f"node {node!r} of {backbone.name} gives no features: expected a vector, tokens or a map")
    return outputs


def _nhwc_nodes(nodes: Sequence[str], backbone: Backbone) -> set[str]:
    """The nodes whose maps, where they give any, have their channels last."""
    return {node for node in nodes if backbone.is_nhwc(node)}


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
