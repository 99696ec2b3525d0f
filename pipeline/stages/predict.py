"""Classify images with a saved classifier, through the very trunk and preprocessing that its card names.

Or with a network as it is, as ImageNet's classes: nothing is learnt here.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from itertools import chain
from math import floor
from pathlib import Path

import numpy as np
from torchvision.models import get_model_weights

from features.devices import resolve_device
from features.loop import run_batches
from features.sources.files import read_file
from features.sources.folders import files_below
from features.storage import Json, digest
from features.trunk.loaded import open_backbone
from features.trunk.spec import AUTO, IMAGENET, NAMED_WEIGHTS
from features.trunk.trunk import Trunk
from features.trunk.weights import Weights
from models.card import Card, load_classifier, load_unseen
from models.heads.head import Classifier
from models.networks.classifier import NetworkClassifier, logits_trunk
from models.trained import trunks_of
from pipeline.classifier_config import ClassifierConfig, PredictConfig
from pipeline.console import progress, remark, result, warn
from pipeline.errors import PredictError
from pipeline.report.prediction_file import check_place, write_predictions
from pipeline.report.predictions import Prediction, print_csv, print_json, print_rows
from pipeline.report.reliability import answer

LIKELY = 5
"""Classes that are shown of each image where they are ImageNet's."""


@dataclass(frozen=True, kw_only=True)
class Predictor:
    """A classifier of image files; `identity` stands for its weights, `about` is said of all predictions.

    Images of which no class is as likely as `least` are left open.
    """

    head: Classifier
    trunks: Sequence[Trunk]
    about: Mapping[str, Json]
    identity: str
    least: float = 0.0

    @property
    def classes(self) -> Sequence[str]:
        """The classes' names, in the order of the probabilities."""
        return self.head.classes_

    def predict(self, parts: Iterable[Sequence[Path]]) -> Iterator[Prediction]:
        """Classify image files in order; no batch has images of two parts."""
        parts = list(parts)
        paths = chain.from_iterable(parts)
        readers = ([partial(read_file, path) for path in part] for part in parts)
        with closing(run_batches(self.trunks, readers)) as done:
            for batch in done:
                features = np.hstack(batch.features).astype(np.float32)
                rows = iter(self.head.predict_proba(features)) if len(features) else iter(())
                for outcome in batch.outcomes:
                    path = next(paths)
                    if outcome.reason:
                        yield Prediction(image=_shown(path), error=outcome.reason)
                    else:
                        shares = next(rows)
                        yield Prediction(
                            image=_shown(path), classes=self.classes, probabilities=shares, least=self.least
                        )


def run_predict(model: Path, images: Sequence[Path], config: PredictConfig) -> None:
    """Classify image files, and those in folders; give what could be read, then raise PredictError for the rest."""
    if not images:
        raise PredictError(f"{model} came alone: give a classifier, and then image files or folders that hold some")
    give_predictions(open_predictor(model, config), images, config)


def run_imagenet(images: Sequence[Path], config: PredictConfig) -> None:
    """Print the most likely of ImageNet's classes for each image; raises PredictError for those that are unreadable."""
    device, name, weights = resolve_device(config.device), config.backbone or "alexnet", config.weights or IMAGENET
    if weights != IMAGENET and weights in (AUTO, *NAMED_WEIGHTS):
        raise PredictError(f"--imagenet came with {weights} weights: expected imagenet or a file of all its weights")
    backbone = open_backbone(name, 0)
    network = backbone.whole()
    recipe = Weights.parse(weights).load(backbone, network)
    classifier = NetworkClassifier(seed=0, device=device)
    classifier.classes_ = tuple(get_model_weights("alexnet")["DEFAULT"].meta["categories"])
    trunk = logits_trunk(network, name, Path(weights).name, recipe, device)
    if trunk.dims != (len(classifier.classes_),):
        raise PredictError(f"--imagenet came with {name}, which knows {trunk.dims[0]:,} classes, not ImageNet's")
    about: dict[str, Json] = {"classifier": f"{name}, ImageNet", "trunks": [trunk.spec.to_json()]}
    predictor = Predictor(head=classifier, trunks=[trunk], about=about, identity=trunk.spec.weights_sha256)
    give_predictions(predictor, images, config, most=LIKELY)


def open_predictor(model: Path, told: ClassifierConfig) -> Predictor:
    """The classifier at `model` with its trunks; says what the threshold of `told.at_least` is, and warns of chance."""
    head, card = load_classifier(model)
    least = _threshold(model, card, told.at_least) if told.at_least else 0.0
    trunks = trunks_of(head, card, resolve_device(told.device), told.weights or "")
    if not card.transfer_learning:
        how = "began with" if isinstance(head, NetworkClassifier) else "has"
        warn(f"this classifier's network {how} random weights: it is no transfer learning")
    about: dict[str, Json] = {
        "classifier": str(model),
        "transfer_learning": card.transfer_learning,
        "trunks": [trunk.to_json() for trunk in card.trunks],
    }
    identity = card.sha256
    if least:
        asked: dict[str, Json] = {"at_least": told.at_least, "threshold": least}
        about, identity = about | asked, digest({"classifier": identity, **asked})
    return Predictor(head=head, trunks=trunks, about=about, identity=identity, least=least)


def give_predictions(predictor: Predictor, images: Sequence[Path], config: PredictConfig, most: int = 1) -> None:
    """Classify images and print them, the `most` likely classes of each, or write them to `config.out`.

    Raises PredictError for those that could not be read, once all others are given.
    """
    if config.out:
        check_place(config.out)
    paths = _expand(images)
    unread, left_open = _write(predictor, paths, config.out) if config.out else _print(predictor, paths, config, most)
    if predictor.least:
        remark(f"{left_open:,} of {len(paths):,} images left open")
    if unread:
        first = unread[0]
        raise PredictError(
            f"{len(unread)} of {len(paths)} images could not be read (first: {first.image}, {first.error})"
        )


def _threshold(model: Path, card: Card, wanted: float) -> float:
    """The probability from which on classes are named, so that the share `wanted` of them is right."""
    unseen = load_unseen(model, card)
    known = answer(unseen.probabilities, unseen.labels, wanted)
    if known.threshold is None:
        raise PredictError(
            f"--at-least {wanted} came, and {len(unseen):,} images that {card.head} had not learnt from show no more "
            f"than {floor(1000 * known.reached) / 1000} of any threshold: give that or less, or train with more images"
        )
    remark(
        f"at least {wanted:.1%} right: classes are left open below a probability of {known.threshold:.3f}, by "
        f"{len(unseen):,} images that {card.head} had not learnt from"
    )
    return known.threshold


def _write(predictor: Predictor, paths: Sequence[Path], path: Path) -> tuple[Sequence[Prediction], int]:
    """Write predictions; returns those of images that could not be read, and how many others were left open."""
    start = time.perf_counter()
    with progress("images", len(paths)) as advance:
        done = write_predictions(path, paths, predictor, on_images=lambda count: advance(count, ""))
    seconds, reused = time.perf_counter() - start, f"{done.reused:,} of them reused" if done.reused else "none reused"
    remark(f"predictions: {done.images:,} images, in {seconds:.1f} s, {reused}")
    result(str(path))
    return done.unread, done.left_open


def _print(
    predictor: Predictor, paths: Sequence[Path], config: PredictConfig, most: int
) -> tuple[Sequence[Prediction], int]:
    """Print predictions as they come; returns what `_write` does."""
    unread: list[Prediction] = []
    left_open: list[Prediction] = []
    with progress("images", len(paths), beside_results=True) as advance:

        def followed() -> Iterator[Prediction]:
            for prediction in predictor.predict([paths]):
                advance(1, "")
                if prediction.error:
                    unread.append(prediction)
                if prediction.is_open:
                    left_open.append(prediction)
                yield prediction

        if config.json:
            print_json(followed(), predictor.about)
        elif config.csv:
            print_csv(followed())
        else:
            print_rows(followed(), [_shown(path) for path in paths], predictor.classes, most)
    return unread, len(left_open)


def _shown(path: Path) -> str:
    """The path as text, also where its name is not UTF-8."""
    return os.fsencode(str(path)).decode(errors="replace")


def _expand(images: Sequence[Path]) -> list[Path]:
    paths = [path for image in images for path in (files_below(image) if image.is_dir() else [image])]
    if not paths:
        raise PredictError(f"no images in {', '.join(map(str, images))}: give image files, or folders that hold some")
    return paths
