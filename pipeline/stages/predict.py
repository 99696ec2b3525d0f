"""Classify images with a saved classifier, through the very trunk and preprocessing that its card names."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from operator import itemgetter
from pathlib import Path

import numpy as np

from features.devices import resolve_device
from features.loop import run_batches
from features.sources.files import read_file
from features.sources.folders import files_below
from features.storage import Json
from features.trunk.trunk import Trunk
from models.card import Card, load_classifier
from models.heads.head import Classifier
from models.networks.classifier import NetworkClassifier
from models.trained import trunk_of
from pipeline.config import PredictConfig
from pipeline.console import progress, result_table, result_text, shown, warn
from pipeline.errors import PredictError

FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""How a cell begins that spreadsheets take for a formula."""


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """What a classifier says of an image: `probabilities` by class, or the `error` for which it cannot be read."""

    image: str
    probabilities: Mapping[str, float] = field(default_factory=dict)
    error: str = ""

    def likely(self, count: int) -> list[tuple[str, float]]:
        """The `count` most likely classes and their probabilities, the likeliest first."""
        return sorted(self.probabilities.items(), key=itemgetter(1), reverse=True)[:count]

    def to_json(self) -> dict[str, Json]:
        """`image`, then `class`, `probability` and `probabilities`, or `error`."""
        if self.error:
            return {"image": self.image, "error": self.error}
        ((name, probability),) = self.likely(1)
        return {
            "image": self.image,
            "class": name,
            "probability": probability,
            "probabilities": dict(self.probabilities),
        }


def run_predict(model: Path, images: Sequence[Path], config: PredictConfig) -> None:
    """Classify image files, and those in folders; print what could be read, then raise PredictError for the rest."""
    if not images:
        raise PredictError(f"{model} came alone: give a classifier, and then image files or folders that hold some")
    head, card = load_classifier(model)
    trunk = _trunk(head, card, config)
    if not card.transfer_learning:
        how = "began with" if isinstance(head, NetworkClassifier) else "has"
        warn(f"this classifier's network {how} random weights: it is no transfer learning")
    trunks = [trunk.to_json() for trunk in card.trunks]
    about: dict[str, Json] = {"classifier": str(model), "transfer_learning": card.transfer_learning, "trunks": trunks}
    predict_and_show(head, trunk, images, about, config)


def predict_and_show(
    head: Classifier,
    trunk: Trunk,
    images: Sequence[Path],
    about: Mapping[str, Json],
    config: PredictConfig,
    most: int = 1,
) -> None:
    """Classify images and print them, the `most` likely classes of each; then raise PredictError for those unread."""
    paths = _expand(images)
    with progress("images", len(paths)) as advance:
        predictions = []
        for prediction in predict_files(head, trunk, paths):
            predictions.append(prediction)
            advance(1, "")
    _show(predictions, about, config, most)
    unread = [prediction for prediction in predictions if prediction.error]
    if unread:
        first = unread[0]
        raise PredictError(
            f"{len(unread)} of {len(paths)} images could not be read (first: {first.image}, {first.error})"
        )


def _trunk(head: Classifier, card: Card, config: PredictConfig) -> Trunk:
    if config.weights and isinstance(head, NetworkClassifier):
        raise PredictError(f"--weights {config.weights} came with a retrained network, which has its own: leave it")
    return trunk_of(head, card, resolve_device(config.device), config.weights or "")


def predict_files(head: Classifier, trunk: Trunk, paths: list[Path]) -> Iterator[Prediction]:
    """Classify image files in order, a batch at a time."""
    size = trunk.batch_images
    parts = [paths[start : start + size] for start in range(0, len(paths), size)]
    batches = run_batches(trunk, ([partial(read_file, path) for path in part] for part in parts))
    for part, batch in zip(parts, batches, strict=True):
        features = np.hstack(batch.features).astype(np.float32)
        rows = iter(head.predict_proba(features)) if len(features) else iter(())
        for path, outcome in zip(part, batch.outcomes, strict=True):
            if outcome.reason:
                yield Prediction(image=_shown(path), error=outcome.reason)
            else:
                shares = map(float, next(rows))
                yield Prediction(image=_shown(path), probabilities=dict(zip(head.classes_, shares, strict=True)))


def _shown(path: Path) -> str:
    """The path as text, also where its name is not UTF-8."""
    return os.fsencode(path).decode(errors="replace")


def _expand(images: Sequence[Path]) -> list[Path]:
    paths = [path for image in images for path in (files_below(image) if image.is_dir() else [image])]
    if not paths:
        raise PredictError(f"no images in {', '.join(map(str, images))}: give image files, or folders that hold some")
    return paths


def _show(predictions: list[Prediction], about: Mapping[str, Json], config: PredictConfig, most: int) -> None:
    if config.json:
        images = [prediction.to_json() for prediction in predictions]
        result_text(json.dumps({**about, "images": images}, indent=2) + "\n")  # in ASCII, which every screen shows
    elif config.csv:
        result_text(_as_csv(predictions))
    else:
        result_table(("image", "class", "probability"), _as_rows(predictions, most), words=2)


def _as_csv(predictions: list[Prediction]) -> str:
    """RFC 4180: lines end in CR LF, and what holds a comma, a quotation mark or an end of line is quoted."""
    lines, names = io.StringIO(), ("image", "class", "probability", "error")
    writer = csv.writer(lines)
    writer.writerow(names)
    writer.writerows([_as_cell(each.to_json().get(name, "")) for name in names] for each in predictions)
    return lines.getvalue()


def _as_cell(value: Json) -> Json:
    """A figure as it is, and text safe in a spreadsheet: an apostrophe before what would be taken for a formula."""
    if not isinstance(value, str):
        return value
    return f"'{shown(value)}" if value.startswith(FORMULA) else shown(value)


def _as_rows(predictions: list[Prediction], most: int) -> list[tuple[str, str, str]]:
    """A row an image, or one for each of its `most` likely classes."""
    rows = []
    for prediction in predictions:
        if prediction.error:
            rows.append((prediction.image, f"! {prediction.error}", ""))
        for number, (name, share) in enumerate(prediction.likely(most)):
            rows.append(("" if number else prediction.image, name, f"{share:.1%}"))
    return rows
