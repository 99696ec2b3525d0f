"""A classifier on disk: the head's own files and a card that names their SHA-256, checked before they are read.

xgb.joblib   scikit-learn and xgboost objects only: `joblib.load` needs nothing of this project
xgb.ubj      the same trees in the format that xgboost keeps readable across versions
xgb.json     the card, written last
"""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from features.storage import digest, file_sha256, replacing, write_json
from features.table.joined import JoinedTable
from features.trunk.spec import TrunkSpec
from models.errors import ClassifierError
from models.heads.head import Classifier
from models.heads.registry import HEADS, make_head
from models.networks.classifier import NetworkClassifier

FORMAT = 3
"""Raised when the meaning of a classifier's files changes."""

PACKAGES = ("treehead", "torch", "torchvision", "xgboost", "scikit-learn", "numpy", "pyarrow", "pillow")


@dataclass(frozen=True, kw_only=True)
class Card:
    """What a classifier is. `classes` are in the order of its probabilities' columns.

    `trunks` has one spec for each node whose features it takes, in the order of the columns. `weights` is what
    `--weights` was given for the trunk: a name or a file's absolute path; `files` maps each file's name
    to its `sha256` and `bytes`; `validation` holds the head's accuracy and log-loss on that split.
    """

    head: str
    classes: tuple[str, ...]
    table: str
    table_identity: str
    trunks: tuple[TrunkSpec, ...]
    transfer_learning: bool
    weights: str
    parameters: Mapping[str, Any]
    learned: Mapping[str, Any]
    validation: Mapping[str, float]
    fit_seconds: float
    device: str
    versions: Mapping[str, str]
    files: Mapping[str, Mapping[str, Any]]

    @property
    def main_file(self) -> str:
        """The name of the file that prediction reads."""
        return next(iter(self.files))

    @property
    def bytes(self) -> int:
        """The size of that file."""
        return int(self.files[self.main_file]["bytes"])

    @property
    def sha256(self) -> str:
        """The checksum of that file."""
        return str(self.files[self.main_file]["sha256"])


def classifier_folder(head: Classifier, table: JoinedTable) -> str:
    """`<head>-<8 hex>`, another for every head, setting, device and table."""
    what = {
        "format": FORMAT,
        "head": head.name,
        "parameters": head.parameters(),
        "device": head.device.type,
        "table": table.identity,
    }
    return f"{head.name}-{digest(what)[:8]}"


def save_classifier(
    head: Classifier, table: JoinedTable, folder: Path, *, weights: str, validation: Mapping[str, float]
) -> Path:
    """Write a classifier's files and then its card into `folder`; returns the file that prediction reads."""
    files = {}
    for suffix in head.suffixes:
        path = folder / f"{head.name}{suffix}"
        with replacing(path) as scratch:
            head.save(scratch, suffix)
        files[path.name] = {"sha256": file_sha256(path), "bytes": path.stat().st_size}
    card = Card(
        head=head.name,
        classes=head.classes_,
        table=table.name,
        table_identity=table.identity,
        trunks=table.trunks,
        transfer_learning=table.trunks[0].pretrained,
        weights=weights,
        parameters=head.parameters(),
        learned=head.learned_,
        validation=validation,
        fit_seconds=head.fit_seconds_,
        device=head.device_,
        versions=package_versions(),
        files=files,
    )
    content = {"format": FORMAT, **asdict(card), "trunks": [trunk.to_json() for trunk in card.trunks]}
    write_json(folder / f"{head.name}.json", {**content, "card_sha256": digest(content)})
    return folder / card.main_file


def load_classifier(path: Path) -> tuple[Classifier, Card]:
    """Read a classifier by the file that prediction reads, after its card and its checksum are found right.

    Raises ClassifierError for a file or card that is missing, cut short, changed, or of another format.
    """
    if not path.is_file() or path.suffix == ".json":
        raise ClassifierError(
            f"no classifier at {path}: expected xgb.joblib or another that xgb, compare or finetune has written"
        )
    card = read_card(path.with_suffix(".json"))
    if path.name != card.main_file:
        raise ClassifierError(
            f"{path} is not what predictions are made from: expected {path.with_name(card.main_file)}"
        )
    if file_sha256(path) != card.files[path.name]["sha256"]:
        raise ClassifierError(
            f"{path} is not the file its card names (its SHA-256 differs): delete {path.parent} and train again"
        )
    head = _unfitted(card)
    head.restore(path)
    head.classes_ = card.classes
    head.fit_seconds_ = card.fit_seconds
    head.learned_ = dict(card.learned)
    return head, card


def _unfitted(card: Card) -> Classifier:
    device = torch.device("cpu")
    if card.head == NetworkClassifier.name:
        return NetworkClassifier(seed=0, device=device, settings=card.parameters)
    return make_head(card.head, seed=0, device=device)


def read_card(path: Path) -> Card:
    """Read a card and check that nobody has changed it; raises ClassifierError."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        seal = content.pop("card_sha256")
        intact = digest(content) == seal
        kept = content.pop("format")
    except OSError as error:
        raise ClassifierError(f"no card at {path}: a classifier is read together with the card beside it") from error
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise ClassifierError(f"{path} is cut short or no card: delete {path.parent} and train again") from error
    if not intact:
        raise ClassifierError(
            f"{path} has been changed since it was written (its SHA-256 differs): delete {path.parent} and train again"
        )
    if kept != FORMAT or content["head"] not in (*HEADS, NetworkClassifier.name):
        raise ClassifierError(
            f"{path} is of format {kept}, expected {FORMAT}: train it again, or use the release that wrote it"
        )
    trunks = tuple(TrunkSpec.from_json(trunk) for trunk in content["trunks"])
    return Card(**content | {"trunks": trunks, "classes": tuple(content["classes"])})


def package_versions() -> dict[str, str]:
    """Versions of Python and of PACKAGES, those that are installed under another name left out."""
    versions = {"python": platform.python_version()}
    for name in PACKAGES:
        with suppress(PackageNotFoundError):
            versions[name] = version(name)
    return versions
