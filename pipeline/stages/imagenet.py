"""A network as it is: images as ImageNet's classes, nothing learnt here."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from torchvision.models import get_model_weights

from features.devices import resolve_device
from features.storage import Json
from features.trunk.loaded import open_backbone
from features.trunk.spec import AUTO, IMAGENET, NAMED_WEIGHTS
from features.trunk.weights import Weights
from models.networks.classifier import NetworkClassifier, logits_trunk
from pipeline.classifier_config import PredictConfig
from pipeline.errors import PredictError
from pipeline.stages.predict import Predictor, give_predictions

LIKELY = 5
"""Classes that are shown of each image."""


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
