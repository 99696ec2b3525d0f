"""Resizing and cropping of pixels in arithmetic that ONNX has as well, to the very values that `to_square` gives.

ONNX's own Resize with antialias is off by 1 of 255 at half a percent of values where it is cubic, and by several where
it is linear: enough for trees to turn elsewhere. So this does what torchvision does to uint8: a filter as wide as the
image shrinks, its weights whole numbers of 16 bits, rows first, each sum rounded to 8 bits. Sums are exact in float32,
because weights are taken in two parts. A photograph of 12 megapixels takes most of a second so.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import nn

from features.errors import TrunkError
from features.trunk.recipe import MAX_ASPECT
from features.trunk.spec import TrunkSpec

REACH = {"bilinear": 1, "bicubic": 2}
"""How far the filters reach, in pixels of the smaller image."""

PART = 64
"""Weights are a multiple of it and a rest: products of neither with 8 bits add up to more than 2^24."""

POWERS = 2.0 ** torch.arange(1, 23, dtype=torch.float64)
"""What a filter's weights may be multiples of a share of; the largest is taken that keeps them within 16 bits."""


class Square(nn.Module):
    """Images of any size as a trunk takes them: (n, h, w, 3) to (n, s, s, 3), both uint8.

    Raises TrunkError for filters other than those of REACH, and where the images would have to be padded.
    """

    def __init__(self, spec: TrunkSpec) -> None:
        super().__init__()
        if spec.interpolation not in REACH or spec.resize < spec.image_size:
            raise TrunkError(
                f"{spec.backbone} wants images of {spec.image_size} px out of {spec.resize} px, {spec.interpolation}: "
                f"expected {' or '.join(REACH)}, and no padding; give `input=prepared`"
            )
        self.resize, self.size, self.reach = spec.resize, spec.image_size, REACH[spec.interpolation]

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        whole = torch._shape_as_tensor(images)[1:3]  # numbers that are traced, as those of `shape` are not
        short = whole.min()
        kept = torch.minimum(whole, MAX_ASPECT * short)
        start = _centred(whole, kept)
        end = start + kept
        resized = torch.div(kept * self.resize, short, rounding_mode="floor")
        planes = images[:, start[0] : end[0], start[1] : end[1]].permute(0, 3, 1, 2)
        rows = self._shrunk(planes, kept[1:], resized[1:])
        columns = self._shrunk(rows.transpose(2, 3), kept[:1], resized[:1])
        return columns.to(torch.uint8).permute(0, 3, 2, 1)

    def _shrunk(self, planes: torch.Tensor, length: torch.Tensor, resized: torch.Tensor) -> torch.Tensor:
        """The last axis of whole numbers from `length`, (1,), to the centre of what is `resized`, (…, s)."""
        weights, unit, first, end = self._weights(length, resized)
        upper = (weights / PART).floor()
        parts = [part.float().T for part in (upper, weights - PART * upper)]
        high, low = (torch.matmul(planes[..., first:end].float(), part).double() for part in parts)
        return ((PART * high + low + unit / 2) / unit).floor().clamp(0, 255)

    def _weights(
        self, length: torch.Tensor, resized: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """Weights (s, end − first), multiples of 1 / unit, of the pixels `first` to `end` that any of them needs.

        The first and the last of all weights, whether they are used or not, are among those that decide the unit.
        """
        scale = length.double() / resized.double()
        wide = scale.clamp(min=1)
        ends = torch.zeros_like(resized), resized - 1
        places = torch.cat([torch.arange(self.size) + _centred(resized, self.size), *ends]).double()
        centre = (scale * (places + 0.5))[:, None]
        low = (centre - wide * self.reach + 0.5).clamp(min=0).floor()
        high = torch.minimum((centre + wide * self.reach + 0.5).floor(), length.double())
        pixels = torch.arange(cast("int", length[0])).double()  # a number that is traced
        curve = self._curve(((pixels - centre + 0.5) * (1 / wide)).abs())
        shares = torch.where((pixels >= low) & (pixels < high), curve, torch.zeros_like(curve))
        shares = shares / shares.sum(dim=1, keepdim=True)
        unit = 2.0 ** ((POWERS * shares.max() + 0.5).floor() < 2**15).sum().double()
        exact = shares[: self.size] * unit
        first, end = low[: self.size].min().long(), high[: self.size].max().long()
        return (torch.sign(exact) * (exact.abs() + 0.5).floor())[:, first:end], unit, first, end

    def _curve(self, x: torch.Tensor) -> torch.Tensor:
        """The filter at a distance x >= 0: linear, or cubic as of Keys (1981) with a = -0.5."""
        if self.reach == 1:
            return (1 - x).clamp(min=0)
        near = (1.5 * x - 2.5) * x * x + 1
        middle = ((-0.5 * x + 2.5) * x - 4) * x + 2
        return torch.where(x < 1, near, torch.where(x < 2, middle, torch.zeros_like(x)))


def _centred(whole: torch.Tensor, part: torch.Tensor | int) -> torch.Tensor:
    """Where the centre begins, as torchvision's center_crop rounds it."""
    return torch.round((whole - part).double() / 2).long()
