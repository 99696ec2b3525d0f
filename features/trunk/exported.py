"""A frozen trunk as ONNX of standard operators: images of any size, or prepared already, to a row of features each."""

from __future__ import annotations

from collections.abc import Sequence

import onnx
import torch
from torch import nn
from torch.nn import functional

from features.errors import TrunkError, first_line
from features.trunk.engine import exported
from features.trunk.pooling import grid_of, pool_output
from features.trunk.recipe import normalise
from features.trunk.resizing import Square
from features.trunk.trunk import Trunk

IMAGES, PREPARED, FEATURES = "images", "prepared", "features"
"""What goes in: (n, h, w, 3) uint8; what a trunk takes: (n, s, s, 3) uint8; what it gives: (n, dim) float32."""


def export_square(trunk: Trunk) -> onnx.ModelProto:
    """What `Trunk.prepare` does: IMAGES to PREPARED; raises TrunkError as `Square` does."""
    images = torch.zeros(2, 40, 30, 3, dtype=torch.uint8)
    return _exported(trunk, Square(trunk.spec), images, {IMAGES: ("n", "h", "w"), PREPARED: ("n",)})


def export_trunk(trunk: Trunk) -> onnx.ModelProto:
    """What `Trunk.forward` does, in float32: PREPARED to FEATURES, those of all nodes side by side.

    Raises TrunkError for a network that torch cannot export.
    """
    size = trunk.spec.image_size
    images = torch.zeros(2, size, size, 3, dtype=torch.uint8)  # more than one, lest their number be fixed unseen
    return _exported(trunk, _Vectors(trunk), images, {PREPARED: ("n",), FEATURES: ("n",)})


def _exported(
    trunk: Trunk, module: nn.Module, images: torch.Tensor, values: dict[str, tuple[str, ...]]
) -> onnx.ModelProto:
    """`module` as ONNX; `values` are what goes in and what comes out, and the names of their first axes.

    It is frozen first: torch sets all that is in it back to the mode that it finds it in.
    """
    try:
        return onnx.load_from_string(exported(module.eval(), images, values))
    except Exception as error:  # the exporter has many of its own
        raise TrunkError(
            f"{trunk.spec.backbone} cannot be exported to ONNX ({first_line(error)}): train with another `backbone`"
        ) from error


class _Vectors(nn.Module):
    """A trunk from prepared pixels to float32 features, rounded to float16 as tables hold them."""

    def __init__(self, trunk: Trunk) -> None:
        super().__init__()
        self.module, self.specs = trunk.module, trunk.specs

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        first = self.specs[0]
        outputs: dict[str, torch.Tensor] = self.module(_normalised(images, first.mean, first.std))
        vectors = [_pooled(outputs[spec.node], spec.pool) for spec in self.specs]
        return torch.cat(vectors, dim=1).half().float()


def _normalised(images: torch.Tensor, mean: Sequence[float], std: Sequence[float]) -> torch.Tensor:
    """As `normalise` does it, of (n, s, s, 3) uint8."""
    scale = torch.tensor([1 / (255 * value) for value in std])
    return (images.float() * scale + normalise(torch.zeros(1, 3, 1, 1), mean, std).flatten()).permute(0, 3, 1, 2)


def _pooled(output: torch.Tensor, pool: str) -> torch.Tensor:
    """As `pool_output` does it; over a grid by sums, as ONNX has no such pooling.

    They are taken in the order that torch's own has on CPUs: so features are those of the table to the last digit, and
    no neighbour or threshold is another.
    """
    grid = grid_of(pool)
    if not grid:
        return pool_output(output, pool)
    (rows, heights), (columns, widths) = (_windows(size, grid) for size in output.shape[2:])
    padded = functional.pad(output, (0, 1, 0, 1))
    lines = [padded[:, :, row] for row in rows]
    total = sum(line[:, :, :, column] for line in lines for column in columns)
    return (total / heights[:, None] / widths).flatten(start_dim=1)


def _windows(size: int, grid: int) -> tuple[torch.Tensor, torch.Tensor]:
    """What each cell of a grid covers of `size` places: the first of each, the second and so on, and how many.

    It is (longest, cells); `size`, the place after the last, stands where a cell has no more.
    """
    cells = min(grid, size)
    ends = torch.tensor([(start * size // cells, -(-(start + 1) * size // cells)) for start in range(cells)])
    places = ends[:, 0] + torch.arange(int((ends[:, 1] - ends[:, 0]).max()))[:, None]
    return torch.where(places < ends[:, 1], places, size), ends[:, 1] - ends[:, 0]
