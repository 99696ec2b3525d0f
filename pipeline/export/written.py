"""An export on disk: model.onnx, which says of itself what it is, and beside it a folder to hand out.

model.onnx        the classifier, its classes, card and licenses in its metadata
model/            the same file with README.md, a model card, and predict.py, which needs no treehead
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import onnx

from features.locks import locked
from features.storage import Json, check_writable, replacing
from features.table.joined import JoinedTable
from features.trunk.spec import NAMED_WEIGHTS, TrunkSpec
from models.card import Card
from models.export.graph import as_bytes
from pipeline.errors import ExportError
from pipeline.release import release
from pipeline.report.plots import templates

FORMAT = 1
"""Raised when the meaning of what an exported file says of itself changes."""

NAME, README, PROGRAM = "model.onnx", "README.md", "predict.py"


@dataclass(frozen=True, kw_only=True)
class About:
    """What an exported file says of itself: how it was checked, and what is `told` of its accuracy.

    `findings` are what is wrong with the images that the classifier learnt from, a sentence each.
    """

    card: Card
    table: JoinedTable
    input: str
    precision: str
    checks: Mapping[str, Json]
    told: Mapping[str, Json]
    findings: Sequence[str]

    def to_json(self) -> dict[str, Json]:
        """The card that the file carries; no path of this machine is in it."""
        card = self.card
        return {
            "format": FORMAT,
            "made_by": f"treehead {release()}",
            "head": card.head,
            "classifier_sha256": card.sha256,
            "dataset": self.table.dataset,
            "rows": self.table.rows,
            "trunks": [_trunk(spec) for spec in card.trunks],
            "transfer_learning": card.transfer_learning,
            "validation": card.validation,
            "input": self.input,
            "precision": self.precision,
            "checks": self.checks,
            "findings": self.findings,
            **self.told,
        }

    @property
    def licenses(self) -> tuple[str, ...]:
        """A line for the weights of each network."""
        lines = (
            f"{spec.backbone}, {_trunk(spec)['weights']} weights: {spec.license or 'no license known'}"
            + (f" ({spec.source})" if spec.source and _is_public(spec) else "")
            for spec in self.card.trunks
        )
        return tuple(dict.fromkeys(lines))


def _is_public(spec: TrunkSpec) -> bool:
    """Whether its weights are no file of this machine's."""
    return spec.weights in NAMED_WEIGHTS


def _trunk(spec: TrunkSpec) -> dict[str, Json]:
    told = spec.to_json()
    if not _is_public(spec):
        told |= {"source": "", "weights": Path(spec.weights).name}
    return told


def check_place(path: Path) -> None:
    """Raise ExportError or OutputError where an export cannot be written to `path`, before any is made."""
    folder = path.with_suffix("")
    if path.is_dir() or (folder.exists() and not folder.is_dir()):
        raise ExportError(f"{path} and {folder} are to be a file and a folder, and are not: choose another `out`")
    check_writable(path.parent)


def write_export(path: Path, model: onnx.ModelProto, about: About) -> None:
    """Write the file, and the folder that goes beside it; none of it before all is on the disk. Raises OutputError."""
    metadata = {
        "classes": json.dumps(about.card.classes, ensure_ascii=False),
        "card": json.dumps(about.to_json(), ensure_ascii=False),
        "licenses": "\n".join(about.licenses),
        "input": about.input,
    }
    onnx.helper.set_model_props(model, metadata)
    folder = path.with_suffix("")
    check_writable(folder)
    with locked(folder), ExitStack() as files:  # what is entered first is renamed last
        whole = files.enter_context(replacing(path, folder))
        whole.write_bytes(as_bytes(model))
        _link(whole, files.enter_context(replacing(folder / NAME, folder)))
        for name, text in ((README, _readme(about)), (PROGRAM, _program())):
            files.enter_context(replacing(folder / name, folder)).write_text(text, encoding="utf-8")


def _link(file: Path, to: Path) -> None:
    """Let the one be the other, or a copy of it where the disk has no links."""
    to.unlink()
    with suppress(OSError):
        os.link(file, to)
        return
    shutil.copyfile(file, to)


def _license(trunks: Sequence[TrunkSpec]) -> str:
    """As Hugging Face has it: that of all weights, where they have the same."""
    (found, *others) = {spec.license.lower() for spec in trunks}
    return found if found and not others and " " not in found else "other"


def _program() -> str:
    return resources.files("pipeline.export").joinpath("standalone.py").read_text("utf-8")


def _readme(about: About) -> str:
    plain = templates.overlay(autoescape=False)
    text: str = plain.get_template("model_card.md").render(
        about=about, told=about.to_json(), license=_license(about.card.trunks)
    )
    return text
