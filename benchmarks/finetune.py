"""`python -m benchmarks finetune`: retraining against the same steps on images that are there already."""

from __future__ import annotations

import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import get_args

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.config import BenchFinetuneConfig
from features.devices import resolve_device, resolve_precision
from features.sources.registry import open_source
from features.sources.source import LearningSplit
from features.squares import decode_once
from features.storage import check_writable, write_json
from features.trunk.loaded import open_backbone
from models.networks.examples import ImageExamples
from models.networks.network import Network
from models.networks.settings import PHOTOGRAPHS, GentleTraining
from models.networks.trainer import Trainer
from pipeline.bench.common import measure_in_turn, ratio
from pipeline.bench.features import make_photos
from pipeline.console import result, result_table
from pipeline.provenance import about

OURS, ALONE = "ours", "steps alone"


@dataclass(frozen=True, kw_only=True)
class Job:
    """One measurement: which, on which photographs, of which network."""

    what: str
    photos: Path
    config: BenchFinetuneConfig


def run_bench_finetune(config: BenchFinetuneConfig) -> None:
    """Measure, print a table, and write `bench/finetune.json`."""
    device = resolve_device(config.device)
    folder = config.out / "bench"
    check_writable(folder)
    backbone = open_backbone(config.backbone, 0)
    backbone.check_image_size(backbone.recipe.image_size)
    photos = make_photos(folder / f"photos-{config.images}", config.images)
    jobs = {(what,): Job(what=what, photos=photos, config=config) for what in (OURS, ALONE)}
    rates = {what: runs for (what,), runs in measure_in_turn(measure, jobs, config.rounds).items()}
    figures = {"images_per_second": rates, "ours / steps alone": ratio(rates[OURS], rates[ALONE])}
    write_json(folder / "finetune.json", asdict(about(asdict(config), device)) | figures)
    _show(config.backbone, rates)
    result(f"written to {folder / 'finetune.json'}")


def measure(job: Job) -> float:
    """Images a second of a second epoch, for which everything is warm; meant for a process of its own."""
    config = job.config
    backbone = open_backbone(config.backbone, 0)
    source = open_source(str(job.photos), splits=get_args(LearningSplit))
    recipe = backbone.recipe
    squares = decode_once(source, recipe, config.out / "bench" / "images", max_bad=0, on_images=lambda _: None)
    network = Network(backbone, len(source.classes), image_size=recipe.image_size, seed=0, pool="auto")
    device = resolve_device(config.device)
    settings = GentleTraining(epochs=2, batch_images=config.batch_images)
    settings = settings.resolved(resolve_precision(settings.precision, device), from_scratch=False)
    ours = ImageExamples(squares, PHOTOGRAPHS)
    examples = ours if job.what == OURS else RandomImages(ours, config.batch_images, device)
    trainer = Trainer(network.to(device), examples, settings, seed=0)
    with tempfile.TemporaryDirectory(dir=config.out / "bench") as scratch:
        trainer.run(Path(scratch, "checkpoint.pt"), lambda _: None, lambda *_: None)
    return trainer.history[-1].images_per_second


class RandomImages:
    """Random images in place of others, `count` of them on the device, the same in every step.

    What training on them takes is its steps alone.
    """

    def __init__(self, others: ImageExamples, count: int, device: torch.device) -> None:
        size = others.recipe.image_size
        self.kind, self.labels = others.kind, others.labels
        self._images = torch.rand(count, 3, size, size, device=device).contiguous(memory_format=torch.channels_last)

    def read(self, split: LearningSplit, numbers: NDArray[np.intp]) -> torch.Tensor:
        """See Examples."""
        return self._images[: len(numbers)]

    def seen(self, kept: torch.Tensor, share: float, generator: torch.Generator) -> torch.Tensor:
        """See Examples."""
        return kept

    def whole(self, kept: torch.Tensor) -> torch.Tensor:
        """See Examples."""
        return kept


def _show(backbone: str, rates: dict[str, list[float]]) -> None:
    rows = [(what, f"{median(values):,.0f}") for what, values in rates.items()]
    rows.append(("ours / steps alone", f"{ratio(rates[OURS], rates[ALONE]):.2f}"))
    result_table(("", "images/s"), rows, title=f"{backbone}, all layers trained")
