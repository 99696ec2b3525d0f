"""What pretraining and retraining share: images decoded once, what is shown of epochs, and their history on disk."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import get_args

import pandas as pd

from features.sources.source import LearningSplit, Source
from features.squares import Squares, decode_once
from features.storage import replacing
from features.table.ledger import LEDGER
from features.trunk.recipe import Recipe
from models.networks.epochs import Epoch, Pulse
from models.networks.settings import Views
from models.networks.trainer import Trainer
from pipeline.config import RunConfig
from pipeline.console import accuracy_in_words, detail, progress, remark, warn
from pipeline.report.plots import history_plot


def decode_images(source: Source, recipe: Recipe, run: RunConfig) -> Squares:
    """The images of `source` that may be learnt from, decoded, or found there."""
    with progress(f"images of {source.name}", int((source.items["split"] != "test").sum())) as advance:
        squares = decode_once(
            source,
            recipe,
            run.out / "images",
            max_bad=run.max_bad,
            retry_bad=run.retry_bad,
            on_images=lambda count: advance(count, ""),
        )
    counts = ", ".join(f"{len(squares.places(split)):,} {split}" for split in get_args(LearningSplit))
    remark(f"images: {counts}, {recipe.resize} px")
    detail(f"{squares.pixels.nbytes / 1e9:.1f} GB, {squares.folder}")
    if len(squares.ledger):
        warn(f"{len(squares.ledger):,} images could not be read and are left out: see {squares.folder / LEDGER}")
    return squares


def retried_too_late(folder: Path) -> None:
    """Say that --retry-bad changes nothing in what is in `folder`."""
    warn(f"--retry-bad leaves what has been learnt as it is: delete {folder} to learn again, from all that is readable")


def train(
    trainer: Trainer, checkpoint: str, what: str, *, folder: Path, on_best: Callable[[], None] = lambda: None
) -> None:
    """Train to the end, from the file `checkpoint` in `folder` on; the history is beside it after each epoch.

    `on_best` is called after each epoch that is the best by now.
    """

    def on_epoch(history: list[Epoch], improved: bool) -> None:
        _write_history(history, folder)
        if improved:
            on_best()
        _say(history[-1])

    with progress(f"{what}, %", 100) as advance:
        trainer.run(folder / checkpoint, _meter(advance), on_epoch)
    _write_history(trainer.history, folder)  # if the run was killed between its last checkpoint and its history


def _meter(advance: Callable[[float, str], None]) -> Callable[[Pulse], None]:
    """Shows the share of the schedule that is over, the epoch, and the images a second of it."""
    shown = 0.0
    began = (0, 0, time.perf_counter())

    def on_pulse(pulse: Pulse) -> None:
        nonlocal shown, began
        now = time.perf_counter()
        if pulse.epoch != began[0]:
            began = (pulse.epoch, pulse.images, now)
        rate = (pulse.images - began[1]) / (now - began[2]) if now > began[2] else 0.0
        advance(100 * pulse.share - shown, f"epoch {pulse.epoch}, {rate:,.0f} images/s")
        shown = 100 * pulse.share

    return on_pulse


def _say(epoch: Epoch) -> None:
    remark(f"  epoch {epoch.epoch}: {accuracy_in_words(epoch.validation_accuracy)}")
    losses = f"loss {epoch.loss:.3f}, validation log-loss {epoch.validation_loss:.3f}"
    detail(f"  {losses}, {epoch.images:,} images, {epoch.images_per_second:,.0f} a second")


def views_in_words(views: Views) -> str:
    """What training sees of each image, as it is shown."""
    if views.whole:
        return "every image as it is"
    return (
        f"{views.min_area:.0%} or more of each image, stretched by up to {views.max_stretch:.0%}, "
        f"turned by up to {views.max_degrees:g}°, {views.hflip:.0%} of them mirrored"
    )


def _write_history(history: list[Epoch], folder: Path) -> None:
    with replacing(folder / "history.csv") as scratch:
        pd.DataFrame([asdict(epoch) for epoch in history]).to_csv(scratch, index=False)
    with replacing(folder / "history.svg") as scratch:
        scratch.write_text(history_plot(history), encoding="utf-8")
