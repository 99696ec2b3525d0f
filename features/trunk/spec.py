"""What is asked of a trunk, and what it became: everything that decides a feature's value, apart from the image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Literal

from features.errors import TrunkError
from features.sources.formats.rules import MAX_PIXELS, Decoding
from features.storage import Json
from features.trunk.short_names import full_name

DEPTHS = "depths"
"""Stands for the spread of nodes that each backbone names."""

IMAGENET, BUNDLED, RANDOM = "imagenet", "bundled", "random"

NAMED_WEIGHTS = (IMAGENET, BUNDLED, RANDOM)
"""Weights that are no file of the user's: torchvision's, those that come with this project, or none learnt."""

RETRAINED = "retrained"
"""Weights that have gone on learning here, in a TrunkSpec."""

FROM_SCRATCH = "from scratch"
"""Weights that have learnt here from random ones, in a TrunkSpec."""

AUTO = "auto"
"""Stands for the best of NAMED_WEIGHTS that are on this machine; what a person gets who asks for none."""

DEFAULT_TRUNKS = {"alexnet": "", "efficientnet_lite0": DEPTHS}
"""The networks that a person gets who names none, and the nodes of each; what validation finds useless is left out."""

SMALLEST_IMAGE, LARGEST_IMAGE = 8, 4096
"""Pixels a side that any network may be asked to see."""


@dataclass(frozen=True, kw_only=True)
class BackboneOptions:
    """Which network, and what it sees.

    Attributes:
        backbone: The network: alexnet, resnet18, vgg16, squeezenet1_1, densenet121, convnext_tiny, vit_b_16 …
            (an unknown name lists the families), or timm:NAME.
        image_size: Pixels that the network sees; by default those of its weights.
        max_pixels: Pixels that an image may have; what has more is not read.
        accept_truncated: Share of a JPEG or PNG file that may be missing because it was cut short; it is grey then.
    """

    backbone: str = "alexnet"
    image_size: int | None = None
    max_pixels: int = MAX_PIXELS
    accept_truncated: float = 0.0

    def __post_init__(self) -> None:
        if self.image_size is not None and not SMALLEST_IMAGE <= self.image_size <= LARGEST_IMAGE:
            raise TrunkError(
                f"`image_size={self.image_size}` is out of range: expected {SMALLEST_IMAGE} to {LARGEST_IMAGE} pixels"
            )
        if self.max_pixels < 1:
            raise TrunkError(f"`max_pixels={self.max_pixels}` is out of range: expected 1 or more")
        if not 0 <= self.accept_truncated <= 1:
            raise TrunkError(f"`accept_truncated={self.accept_truncated}` is no share: expected a number from 0 to 1")


@dataclass(frozen=True, kw_only=True)
class NetworkOptions(BackboneOptions):
    """Which network with which weights, and what it sees.

    Attributes:
        weights: The network's weights: imagenet (as published, from the cache, a package, or downloaded), bundled
            (those that come with treehead), a .safetensors or .pth file, random, which is no transfer learning, or
            auto: imagenet where they need no download, else bundled where there are any, else random.
    """

    weights: str = AUTO


@dataclass(frozen=True, kw_only=True)
class TrunkOptions(NetworkOptions):
    """What is asked of trunks; what is left open becomes the backbone's own, and a TrunkSpec says what it became.

    Attributes:
        backbone: The network: alexnet, efficientnet_lite0, resnet18, vgg16, squeezenet1_1, densenet121, convnext_tiny,
            vit_b_16 … (an unknown name lists the families), a short name such as dinov2-small, or timm:NAME; several,
            separated by commas, stand side by side. auto: alexnet and the depths of efficientnet_lite0 for photographs,
            alexnet alone for digits, letters and signs, and where weights or a node are given.
        weights: The network's weights: imagenet (as published, from the cache, a package, or downloaded), bundled
            (those that come with treehead), a .safetensors or .pth file, random, which is no transfer learning, or
            auto: imagenet where they need no download, else bundled where there are any, else random. Of several
            networks one for all, or one for each, separated by commas.
        node: Where in the network features are taken: one node, several separated by commas, or depths for a spread
            from early to late; one pass writes a table for each. By default what its own classifier would see. Of
            several networks one for all, or one for each, separated by commas, where + joins the nodes of one.
        pool: What is done to a node's map: none, avg, max, avgNxN (averages over a grid of N by N), or auto, which
            averages over as fine a grid as 10,000 columns allow what has more.
        precision: fp32, bf16, fp16, or auto: the fastest that the device has in hardware.
        engine: What computes the network: torch, onnxruntime (in fp32 on the CPU), or auto, the faster of the two.
        compiled: Compile the network first (torch.compile): a minute at the start, then a little faster.
        decoder: pillow, or nvjpeg to let the GPU decode JPEG files.
    """

    backbone: str = AUTO
    node: str | None = None
    pool: str = "auto"
    precision: str = "auto"
    engine: str = "auto"
    compiled: bool = False
    decoder: Literal["pillow", "nvjpeg"] = "pillow"

    def each(self) -> tuple[TrunkOptions, ...]:
        """What is asked of each network, in the order given; raises TrunkError.

        >>> [(one.backbone, one.node) for one in TrunkOptions(backbone="alexnet,resnet18", node=",depths").each()]
        [('alexnet', None), ('resnet18', 'depths')]
        """
        if self.backbone == AUTO:
            return self.named(photographs=True).each()
        if "," not in self.backbone:
            return (self,)
        names = [full_name(name.strip()) for name in self.backbone.split(",") if name.strip()]
        twice = [name for name in names if names.count(name) > 1]
        if twice:
            raise TrunkError(f"`backbone={self.backbone}` names {twice[0]!r} more than once: name each network once")
        weights, nodes = (_for_each(name, getattr(self, name), names) for name in ("weights", "node"))
        return tuple(
            replace(self, backbone=name, weights=of_weights or AUTO, node=node or None)
            for name, of_weights, node in zip(names, weights, nodes, strict=True)
        )

    def named(self, *, photographs: bool) -> TrunkOptions:
        """The same with the networks that `auto` stands for: one that does for what are no photographs.

        Weights and nodes that were given are one network's as well.
        """
        if self.backbone != AUTO:
            return self
        if self.weights != AUTO or self.node or not photographs:
            return replace(self, backbone=BackboneOptions.backbone)
        return replace(self, backbone=",".join(DEFAULT_TRUNKS), node=",".join(DEFAULT_TRUNKS.values()))


def _for_each(setting: str, text: str | None, names: Sequence[str]) -> list[str]:
    """The value of a setting for each of several networks: one for all, or as many as there are, between commas."""
    values = [value.strip() for value in (text or "").split(",")]
    if len(values) not in (1, len(names)):
        raise TrunkError(
            f"`{setting}={text}` has {len(values)} entries for {len(names)} networks: give one for all, or one for each"
        )
    return values * len(names) if len(values) == 1 else values


@dataclass(frozen=True, kw_only=True)
class TrunkSpec(Decoding):
    """Everything that decides a feature's value, apart from the image.

    `weights` is one of NAMED_WEIGHTS, the name of a file, or RETRAINED or FROM_SCRATCH for a network that learnt here;
    `weights_sha256` is that of the tensors that `node` needs (see `state_sha256`), so that the same weights make the
    same table from any file; `seed` is that of random weights, else None. Sizes are in pixels: the shorter side becomes
    `resize`, the centre `image_size` is what the network sees. `pool`, `precision` and `decoder` are what was done,
    never `auto`; images are decoded as Decoding says. `license` and `source` of the weights are empty where nobody
    says; like the name of the weights they decide nothing, see `decisive`.
    """

    backbone: str
    weights: str
    weights_sha256: str
    seed: int | None
    node: str
    pool: str
    image_size: int
    resize: int
    interpolation: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    precision: str = "fp32"
    engine: str = "torch"
    compiled: bool = False
    decoder: str = "pillow"
    license: str = ""
    source: str = ""

    @property
    def title(self) -> str:
        """`<backbone>.<node>`."""
        return f"{self.backbone}.{self.node}"

    @property
    def pretrained(self) -> bool:
        """Whether anything was learnt elsewhere: random weights, and what was made of them here, transfer nothing."""
        return self.weights not in (RANDOM, FROM_SCRATCH)

    def decisive(self) -> dict[str, Json]:
        """As `to_json`, but without what the weights are called, and where they come from."""
        return {name: value for name, value in self.to_json().items() if name not in ("weights", "license", "source")}

    def to_json(self) -> dict[str, Json]:
        """A dictionary that JSON can hold; `storage.from_json` turns it back."""
        return asdict(self) | {"mean": list(self.mean), "std": list(self.std), "formats": list(self.formats)}
