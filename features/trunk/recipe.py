"""How weights want images prepared, and pixels to what a trunk takes: the weights decide, never the caller."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torchvision.transforms import v2

from features.sources.formats.rules import Decoding
from features.trunk.spec import BackboneOptions


@dataclass(frozen=True, kw_only=True)
class Recipe(Decoding):
    """How weights want images prepared: the shorter side becomes `resize` px, the centre `image_size` is kept.

    Images are decoded as Decoding says: the weights do not decide that, but it stays with them in use.
    """

    image_size: int
    resize: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: str

    def at(self, image_size: int | None) -> Recipe:
        """The same for another image size, both sizes in proportion.

        >>> recipe = Recipe(image_size=224, resize=256, interpolation="bilinear", mean=(0.5,) * 3, std=(0.2,) * 3)
        >>> recipe.at(112).resize
        128
        """
        if image_size is None:
            return self
        return replace(self, image_size=image_size, resize=round(image_size * self.resize / self.image_size))

    def asked(self, options: BackboneOptions) -> Recipe:
        """The same at the image size, and decoded by the rules, that are asked for."""
        recipe = self.at(options.image_size)
        return replace(recipe, max_pixels=options.max_pixels, accept_truncated=options.accept_truncated)


MAX_ASPECT = 4
"""Longer sides are cropped to this multiple of the shorter before resizing: the centre crop drops the rest anyway."""


def to_square(images: torch.Tensor, *, resize: int, size: int, interpolation: str) -> torch.Tensor:
    """Resize the shorter side to `resize` px (antialiased), crop the centre.

    (…, 3, h, w) to (…, 3, size, size), uint8.

    >>> to_square(torch.zeros(3, 300, 400, dtype=torch.uint8), resize=256, size=224, interpolation="bilinear").shape
    torch.Size([3, 224, 224])
    """
    height, width = images.shape[-2:]
    longest = MAX_ASPECT * min(height, width)
    if max(height, width) > longest:
        images = v2.functional.center_crop(images, [min(height, longest), min(width, longest)])
    images = v2.functional.resize(images, [resize], interpolation=v2.InterpolationMode(interpolation), antialias=True)
    return v2.functional.center_crop(images, [size, size])


def normalise(images: torch.Tensor, mean: Sequence[float], std: Sequence[float]) -> torch.Tensor:
    """Scale 0..255 to 0..1, less `mean`, over `std`, on the images' device: (n, 3, s, s) to channels-last float32.

    >>> white = torch.full((1, 3, 1, 1), 255, dtype=torch.uint8)
    >>> normalise(white, mean=(0.5, 0.5, 0.5), std=(0.5, 0.25, 0.125)).flatten()
    tensor([1., 2., 4.])
    """
    count, _, height, width = images.shape
    # Row by row, three channels side by side: several times as fast as broadcasting over the channels.
    scale = torch.tensor([1 / (255 * value) for value in std], device=images.device).repeat(width)
    shift = torch.tensor([-m / s for m, s in zip(mean, std, strict=True)], device=images.device).repeat(width)
    rows = images.permute(0, 2, 3, 1).reshape(count * height, width * 3)
    rows = rows.to(torch.float32, copy=True)  # float images would else be changed in place
    return rows.mul_(scale).add_(shift).view(count, height, width, 3).permute(0, 3, 1, 2)
