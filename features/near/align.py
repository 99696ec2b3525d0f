"""How far two small grey pictures differ once one is shifted and scaled onto the other, and its brightness set aside.

After Lucas & Kanade (1981) in the inverse compositional form of Baker & Matthews (2004): the gradients of the first
picture serve all steps. A warp scales and shifts each axis, which is what cutting off margins does.
"""

from __future__ import annotations

import torch

STEPS = 6
"""Of Gauss and Newton."""

LEAST_SEEN = 0.6
"""The share of the first picture that the second must cover."""

CHUNK = 2048
"""Pairs at once: more leave the caches."""

FAINT = 1e-3
"""Norm of a picture that shows nothing, in grey levels: all of these are alike."""


def residuals(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """1 - correlation of (m, s, s) pictures at the best warp found, (m,) float32: 0 for copies."""
    parts = (slice(start, start + CHUNK) for start in range(0, len(first), CHUNK))
    found = [_residuals(first[part].float(), second[part].float()) for part in parts]
    return torch.cat(found) if found else torch.empty(0)


def _residuals(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    axis = (torch.arange(first.shape[-1]) + 0.5) * 2 / first.shape[-1] - 1
    warp = torch.tensor([1.0, 0, 1, 0]).repeat(len(first), 1)  # of x: scale, shift; of y
    slopes = _slopes(first, axis)
    ridge = torch.eye(4) * (1e-3 * slopes.square().sum(2).mean(1) + 1e-3)[:, None, None]  # for pictures without slopes
    inverse = torch.linalg.inv(slopes @ slopes.transpose(1, 2) + ridge)
    least = torch.full((len(first),), 2.0)
    for _ in range(STEPS):
        residual, error = _compare(first, second, warp, axis)
        least = torch.minimum(least, residual)
        step = (inverse @ (slopes @ error[..., None]))[..., 0].clamp(-0.1, 0.1)
        warp = _composed(warp, step)
    return torch.minimum(least, _compare(first, second, warp, axis)[0]).clamp_min(0)


def _slopes(pictures: torch.Tensor, axis: torch.Tensor) -> torch.Tensor:
    """How each picture changes with the four numbers of a warp, (m, 4, s * s), its own length being 1."""
    spacing = float(axis[1] - axis[0])
    down, right = torch.gradient(pictures, spacing=spacing, dim=(1, 2))
    slopes = torch.stack([right * axis, right, down * axis[:, None], down], 1).flatten(2)
    flat = pictures.flatten(1)
    length: torch.Tensor = (flat - flat.mean(1, keepdim=True)).norm(dim=1, keepdim=True).clamp_min(FAINT)
    return (slopes - slopes.mean(2, keepdim=True)) / length[..., None]


def _compare(
    first: torch.Tensor, second: torch.Tensor, warp: torch.Tensor, axis: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """1 - correlation under a warp, (m,), and by how much the second is more, (m, s * s)."""
    x, y = warp[:, :1] * axis + warp[:, 1:2], warp[:, 2:3] * axis + warp[:, 3:]
    warped = (_sampling(y) @ second @ _sampling(x).transpose(1, 2)).flatten(1)
    seen = ((y.abs() <= 1)[:, :, None] & (x.abs() <= 1)[:, None, :]).flatten(1).float()
    one, other = _unit(first.flatten(1), seen), _unit(warped, seen)
    blank = (one.abs().sum(1) == 0) & (other.abs().sum(1) == 0)
    residual = torch.where(blank, 0.0, 1 - (one * other).sum(1))
    return torch.where(seen.mean(1) < LEAST_SEEN, 2.0, residual), other - one


def _sampling(places: torch.Tensor) -> torch.Tensor:
    """The (m, s, s) matrices that sample an axis at (m, s) places, linearly."""
    size = places.shape[1]
    pixels = ((places + 1) * size / 2 - 0.5).clamp(0, size - 1)
    return (1 - (pixels[..., None] - torch.arange(size)).abs()).clamp_min(0)


def _composed(warp: torch.Tensor, step: torch.Tensor) -> torch.Tensor:
    """The warp after the inverse of a step."""
    scale = warp[:, 0::2] / (1 + step[:, 0::2])
    shift = warp[:, 1::2] - scale * step[:, 1::2]
    return torch.stack([scale, shift], 2).flatten(1)


def _unit(pictures: torch.Tensor, seen: torch.Tensor) -> torch.Tensor:
    mean = (pictures * seen).sum(1, keepdim=True) / seen.sum(1, keepdim=True).clamp_min(1)
    centred = (pictures - mean) * seen
    length = centred.norm(dim=1, keepdim=True)
    return torch.where(length > FAINT, centred / length.clamp_min(FAINT), 0.0)
