"""A whole classifier as one ONNX model: photographs to probabilities and names, by way of all networks it learnt from.

images (n, h, w, 3) uint8 RGB -> probabilities (n, k) float32, label (n,) text
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import onnx

from features.errors import TrunkError
from features.trunk.exported import FEATURES, IMAGES, PREPARED, export_square, export_trunk
from features.trunk.trunk import Trunk
from models.export.graph import Graph, joined, renamed, rows_of
from models.export.heads import LABEL, PROBABILITIES, export_head
from models.heads.head import Classifier

Shrink = Callable[[Trunk, onnx.ModelProto], onnx.ModelProto]
"""Makes another of a trunk's model, with weights or arithmetic of less precision."""


def export_classifier(
    head: Classifier, trunks: Sequence[Trunk], *, prepared: bool, shrink: Shrink = lambda _, model: model
) -> onnx.ModelProto:
    """What `predict` does with pixels; raises TrunkError for a network that cannot be exported.

    `prepared` images are (n, s, s, 3) uint8, as each trunk's recipe has them: they must all have the same.
    """
    if prepared:
        _check_alike(trunks)
    models, features = [], []
    for number, trunk in enumerate(trunks):
        square = IMAGES if prepared else f"{PREPARED}_{number}"
        if not prepared:
            models.append(renamed(export_square(trunk), {PREPARED: square}))
        features.append(f"{FEATURES}_{number}")
        models.append(renamed(shrink(trunk, export_trunk(trunk)), {PREPARED: square, FEATURES: features[-1]}))
    models.append(_side_by_side(features))
    return joined([*models, export_head(head)], IMAGES, (PROBABILITIES, LABEL))


def _side_by_side(features: Sequence[str]) -> onnx.ModelProto:
    """The features of several trunks to FEATURES."""
    graph = Graph()
    graph.give(graph.add("Concat", *features, axis=1), FEATURES)
    return graph.model([rows_of(name) for name in features], [rows_of(FEATURES)])


def _check_alike(trunks: Sequence[Trunk]) -> None:
    recipes = {(trunk.spec.resize, trunk.spec.image_size, trunk.spec.interpolation) for trunk in trunks}
    if len(recipes) > 1:
        said = " and ".join(f"{size} px of {resize} px, {how}" for resize, size, how in sorted(recipes))
        raise TrunkError(f"`input=prepared` came, but the networks want images of {said}: leave it out")
