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

import torch

from features.storage import FileRecord, Json, digest, file_sha256, from_json, replacing, write_json
from features.table.joined import JoinedTable
from features.trunk.spec import TrunkSpec
from models.errors import ClassifierError
from models.heads.head import CARD_FORMAT, Classifier
from models.heads.registry import HEADS, make_head
from models.networks.classifier import NetworkClassifier
from models.networks.settings import FORMER_NETWORK, NETWORK

PACKAGES = ("treehead", "torch", "torchvision", "xgboost", "scikit-learn", "numpy", "pyarrow", "pillow")


@dataclass(frozen=True, kw_only=True)
class Card:
    """What a classifier is. `classes` are in the order of its probabilities' columns.

    `trunks` has one spec for each node whose features it takes, in the order of the columns. `weights` is what the
    trunk can be built from again: a name or a file's absolute path; `files` has the record of each file by name,
    first that of the one that prediction reads; `validation` holds the head's accuracy and log-loss on that split.
    """

    head: str
    classes: tuple[str, ...]
    table: str
    table_identity: str
    trunks: tuple[TrunkSpec, ...]
    transfer_learning: bool
    weights: str
    parameters: Mapping[str, Json]
    learned: Mapping[str, Json]
    validation: Mapping[str, float]
    fit_seconds: float
    device: str
    versions: Mapping[str, str]
    files: Mapping[str, FileRecord]

    @property
    def main_file(self) -> str:
        """The name of the file that prediction reads."""
        return next(iter(self.files))

    @property
    def bytes(self) -> int:
        """The size of `main_file`, in bytes."""
        return self.files[self.main_file].bytes

    @property
    def sha256(self) -> str:
        """SHA-256 (64 hex digits) of `main_file`."""
        return self.files[self.main_file].sha256

    def write(self, path: Path) -> None:
        """Write the card as JSON, sealed with the SHA-256 of its content."""
        content = {"format": CARD_FORMAT, **asdict(self)}
        write_json(path, {**content, "card_sha256": digest(content)})


def classifier_folder(head: Classifier, table: JoinedTable) -> str:
    """`<head>-<8 hex>`, another for every head, setting, device and table."""
    what: Json = {
        "format": CARD_FORMAT,
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
        files[path.name] = FileRecord.of(path)
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
    card.write(folder / f"{head.name}.json")
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
    if file_sha256(path) != card.sha256:
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
    if card.head in (NETWORK, FORMER_NETWORK):
        return NetworkClassifier(seed=0, device=device, settings=card.parameters)
    if card.head not in HEADS:
        raise ClassifierError(
            f"a card of the head {card.head!r} came, expected one of {', '.join((*HEADS, NETWORK))}: "
            "use the release that wrote it"
        )
    return make_head(card.head, seed=0, device=device)


def read_card(path: Path) -> Card:
    """Read a card and check that nobody has changed it; raises ClassifierError."""
    content = _unsealed(path)
    kept = content.pop("format", None)
    if kept != CARD_FORMAT:
        raise ClassifierError(
            f"{path} is of format {kept}, expected {CARD_FORMAT}: train it again, or use the release that wrote it"
        )
    try:
        return from_json(Card, content)
    except ValueError as error:
        raise ClassifierError(f"{path} is no card of format {CARD_FORMAT} ({error}): train it again") from error


def _unsealed(path: Path) -> dict[str, Json]:
    """What is in the card at `path` but for its seal, which is checked."""
    try:
        content: dict[str, Json] = json.loads(path.read_text(encoding="utf-8"))
        seal = content.pop("card_sha256")
        intact = digest(content) == seal
    except OSError as error:
        raise ClassifierError(f"no card at {path}: a classifier is read together with the card beside it") from error
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise ClassifierError(f"{path} is cut short or no card: delete {path.parent} and train again") from error
    if not intact:
        raise ClassifierError(
            f"{path} has been changed since it was written (its SHA-256 differs): delete {path.parent} and train again"
        )
    return content


def package_versions() -> dict[str, str]:
    """Versions of Python and of PACKAGES, those that are installed under another name left out."""
    versions = {"python": platform.python_version()}
    for name in PACKAGES:
        with suppress(PackageNotFoundError):
            versions[name] = version(name)
    return versions
