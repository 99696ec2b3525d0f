"""A classifier as one ONNX file from pixels to probabilities, and a folder to hand out; written only if it agrees."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from shlex import quote

import numpy as np
import onnx
import torch

from features.storage import Json
from features.table.joined import JoinedTable
from features.trunk.engine import ONNXRUNTIME
from features.trunk.trunk import Trunk
from models.card import Card, load_classifier
from models.export.classifier import export_classifier
from models.export.heads import export_head
from models.heads.head import Classifier, Probabilities
from models.trained import trunks_of
from pipeline.classifier_config import FP32, PREPARED, ExportConfig
from pipeline.console import remark
from pipeline.export.gate import BY_PIXELS, Checked, Judged, Pixels, agreement, check_features, off_by
from pipeline.export.origin import findings_of, images_of, table_of
from pipeline.export.smaller import shrinking
from pipeline.export.written import About, check_place, write_export
from pipeline.web.folder import check_web, write_web

CPU, PILLOW = torch.device("cpu"), "pillow"


@dataclass(frozen=True, kw_only=True)
class _Subject:
    """What is exported: a classifier with its card, the table that it is held against, and the trunks, in fp32."""

    head: Classifier
    card: Card
    table: JoinedTable
    trunks: Sequence[Trunk]

    @property
    def is_exact(self) -> bool:
        """Whether its table was made with the arithmetic and the decoder that the export is made with."""
        return all((spec.precision, spec.decoder) == (FP32, PILLOW) for spec in self.card.trunks)

    @property
    def made_in(self) -> str:
        """The precision of its table, of those trunks that are not in float32, or else what decoded their images."""
        less = {spec.precision for spec in self.card.trunks} - {FP32}
        return " and ".join(sorted(less)) or f"{FP32}, by {self.card.trunks[0].decoder}"


def run_export(model: Path, config: ExportConfig) -> Path:
    """Export the classifier at `model`, or raise ExportError where the export does not say what it says."""
    check_place(config.out)
    if config.web:
        check_web(config.web)
    head, card = load_classifier(model)
    table = table_of(model, card)
    source = images_of(table, config.dataset, config.data_dir)
    subject = _Subject(head=head, card=card, table=table, trunks=_trunks(head, card, config.weights or ""))
    judged, by_features = check_features(head, export_head(head), table)
    pixels = Pixels(source, subject.trunks, prepared=config.input == PREPARED)
    exported = export_classifier(head, subject.trunks, prepared=config.input == PREPARED)
    theirs = pixels.said_by(exported, list(judged.keys), head.classes_)
    checks = {"features": by_features} | _check_pixels(subject, judged, pixels, theirs)
    for name, checked in checks.items():
        remark(f"from {name}: {checked.in_words()}")
    told: dict[str, Json] = {"test_accuracy": judged.accuracy(theirs)} if judged.tested.any() else {}
    if config.precision != FP32:
        exported, cost = _smaller(subject, judged, pixels, theirs, config)
        told |= cost
    about = About(
        card=card,
        table=table,
        input=config.input,
        precision=config.precision,
        checks={name: asdict(checked) for name, checked in checks.items()},
        told=told,
        findings=findings_of(model, table),
    )
    write_export(config.out, exported, about)
    if config.web:
        size, folder = write_web(config.out, config.web) / 1e6, quote(str(config.web))
        remark(f"{config.web}: {size:.1f} MB for any web server; here: python -m http.server --directory {folder}")
    return config.out


def _check_pixels(subject: _Subject, judged: Judged, pixels: Pixels, theirs: Probabilities) -> dict[str, Checked]:
    """How far what the export says of images is what the classifier does; raises ExportError where that is too far.

    Features of less precision move the classifier's own probabilities, trees' by more than the gate allows. The export
    is then held against what it says by exact ones, made anew, and must name the class that it names by its table.
    """
    if subject.is_exact:
        return {"pixels": agreement(judged.keys, judged.said, theirs, by="pixels", most=BY_PIXELS)}
    exact = pixels.said_here(subject.head, list(judged.keys))
    by_pixels = agreement(judged.keys, exact, theirs, by="pixels", most=BY_PIXELS)
    advice = f"make its table with --precision {FP32} --decoder {PILLOW}, as the file computes, and train again"
    moved = agreement(judged.keys, judged.said, theirs, by=f"features in {subject.made_in}", most=1.0, advice=advice)
    return {"pixels": by_pixels, f"pixels, where it takes features in {subject.made_in}": moved}


def _smaller(
    subject: _Subject, judged: Judged, pixels: Pixels, exact: Probabilities, config: ExportConfig
) -> tuple[onnx.ModelProto, dict[str, Json]]:
    """The export in less precision, and what that costs on the same images."""
    shrink = shrinking(config.precision, pixels, _training_keys(subject.table))
    exported = export_classifier(subject.head, subject.trunks, prepared=config.input == PREPARED, shrink=shrink)
    theirs = pixels.said_by(exported, list(judged.keys), subject.head.classes_)
    moved = off_by(exact, theirs)
    said = f"in {config.precision}: {moved.in_words()}"
    cost: dict[str, Json] = {"moved": asdict(moved)}
    if judged.tested.any():
        before, after = judged.accuracy(exact), judged.accuracy(theirs)
        said += f"; of the test images {after:.2%} are right, {before:.2%} in fp32"
        cost |= {"test_accuracy": after, "test_accuracy_fp32": before}
    remark(said)
    return exported, cost


def _training_keys(table: JoinedTable) -> Sequence[str]:
    index = table.index()
    keys = index.loc[index["split"] == "train", "key"].to_numpy()
    return list(keys[np.random.default_rng(0).permutation(len(keys))])


def _trunks(head: Classifier, card: Card, weights: str) -> Sequence[Trunk]:
    """The classifier's networks in float32 on the CPU, by the engine that is usual there."""
    specs = [replace(spec, precision=FP32, decoder=PILLOW, engine=ONNXRUNTIME) for spec in card.trunks]
    return trunks_of(head, replace(card, trunks=tuple(specs)), CPU, weights)
