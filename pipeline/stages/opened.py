"""Images and networks opened, before time is spent on them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from features.sources.registry import open_source
from features.sources.source import SPLITS, Source
from features.storage import mark_results
from features.stores import place
from features.table.joined import JoinedTable
from features.trunk.loaded import Loaded, weights_of
from features.trunk.spec import TrunkOptions
from pipeline.config import RunConfig
from pipeline.console import progress
from pipeline.errors import PipelineError


@dataclass(frozen=True, kw_only=True)
class Opened:
    """What a run is about: labelled images, networks with their weights, and the device that works on them.

    `trunk` is what was asked for, never `auto`.
    """

    source: Source
    trunk: TrunkOptions
    networks: tuple[Loaded, ...]
    device: torch.device

    def weights_of(self, table: JoinedTable) -> str:
        """What the networks of a table can be built from again, see `weights_of`."""
        needed = {trunk.backbone for trunk in table.trunks}
        return weights_of([loaded for loaded in self.networks if loaded.backbone.name in needed])


def open_images(
    dataset: str,
    run: RunConfig,
    splits: Sequence[str] = SPLITS,
    *,
    unlabelled: bool = False,
    near: Mapping[str, str] | None = None,
) -> Source:
    """List the images of `dataset`, see `open_source`, and see that what comes of them can be written."""
    images = place(dataset)
    if images.is_dir() and run.out.resolve() == images.resolve():
        raise PipelineError(f"--out {run.out} is the folder of images: choose another")
    mark_results(run.out)
    with progress(f"images of {dataset}", None) as advance:
        return open_source(
            dataset,
            run.images,
            seed=run.seed,
            splits=splits,
            on_listed=lambda count: advance(count, ""),
            unlabelled=unlabelled,
            near=near,
        )
