"""A network of torchvision as it is: images as ImageNet's classes, nothing learnt here."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from torchvision.models import get_model_weights

from features.devices import resolve_device, resolve_precision
from features.trunk.loaded import TIMM
from features.trunk.spec import AUTO_WEIGHTS, NAMED_WEIGHTS
from features.trunk.torchvision_backbone import VisionBackbone
from features.trunk.weights import file_state, load_into
from models.networks.classifier import NetworkClassifier, logits_trunk
from pipeline.config import PredictConfig
from pipeline.errors import PredictError
from pipeline.stages.predict import predict_and_show

LIKELY = 5
"""Classes that are shown of each image."""


def run_imagenet(images: Sequence[Path], config: PredictConfig) -> None:
    """Print the most likely of ImageNet's classes for each image; raises PredictError for those that are unreadable."""
    device, name, weights = resolve_device(config.device), config.backbone or "alexnet", config.weights or "imagenet"
    if name.startswith(TIMM) or (weights != "imagenet" and weights in (AUTO_WEIGHTS, *NAMED_WEIGHTS)):
        raise PredictError(
            f"--imagenet came with {name} and {weights} weights: expected a network of torchvision, and imagenet or a "
            "file of all its weights"
        )
    backbone = VisionBackbone(name, 0)
    state, recipe = backbone.published() if weights == "imagenet" else (file_state(Path(weights)), backbone.recipe)
    network = backbone.network
    load_into(network, state, whole_model=network.state_dict(), where=weights)
    classifier = NetworkClassifier(seed=0, device=device)
    classifier.classes_ = tuple(get_model_weights(name)["DEFAULT"].meta["categories"])
    trunk = logits_trunk(network, name, Path(weights).name, recipe, resolve_precision("auto", device), device)
    about = {"classifier": f"{name}, ImageNet", "trunks": [trunk.spec.to_json()]}
    predict_and_show(classifier, trunk, images, about, config, most=LIKELY)
