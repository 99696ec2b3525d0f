"""A classifier on disk: the head's own files and a card that names their SHA-256.

xgb.joblib        scikit-learn and xgboost objects only: `joblib.load` needs nothing of this project
xgb.safetensors   what they are made of, as plain arrays: all that is read here, so that nobody's pickle is ever loaded
xgb.parquet       what it said of training and validation images that it had not seen, by key: see `models.unseen`
xgb.skops         the same objects as skops writes them, to be looked at before they are made
xgb.ubj           the trees alone in the format that xgboost keeps readable across versions
xgb.json          the card, written last
"""

from __future__ import annotations

import platform
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from features.errors import first_line
from features.storage import (
    FileRecord,
    Json,
    digest,
    file_sha256,
    from_json,
    read_json,
    replacing,
    sealed,
    unsealed,
    write_json,
)
from features.table.joined import JoinedTable
from features.trunk.spec import TrunkSpec
from models.errors import ClassifierError, SettingsError
from models.heads.head import DATA, SKOPS, UNSEEN, Classifier, Head
from models.heads.registry import HEADS, HeadSettings, make_head
from models.networks.classifier import NetworkClassifier
from models.networks.settings import FORMER_NETWORK, NETWORK
from models.skops_file import types_to_trust
from models.unseen import Unseen

SEAL = "card_sha256"

PACKAGES = ("treehead", "torch", "torchvision", "xgboost", "scikit-learn", "numpy", "pyarrow", "pillow")


@dataclass(frozen=True, kw_only=True)
class Card:
    """What a classifier is. `classes` are in the order of its probabilities' columns.

    `trunks` has one spec for each node whose features it takes, in the order of the columns. `weights` is what these
    can be built from again, see `weights_of`; `files` has the record of each file by name, first that of the one that
    people take away; `validation` holds accuracy and log-loss on images that it had not seen when they were judged;
    `excluded` counts the images of the data set that a person had left out; `trusted` names the types that skops asks
    whoever reads its file to trust.
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
    excluded: int = 0
    trusted: tuple[str, ...] = ()

    @property
    def main_file(self) -> str:
        """The name of the file that people take away."""
        return next(iter(self.files))

    @property
    def bytes(self) -> int:
        """The size of `main_file`, in bytes."""
        return self.files[self.main_file].bytes

    @property
    def sha256(self) -> str:
        """SHA-256 (64 hex digits) of `main_file`."""
        return self.files[self.main_file].sha256


def classifier_folder(head: Classifier, table: JoinedTable) -> str:
    """`<head>-<8 hex>`, another for every head, setting, device and table."""
    what: Json = {
        "format": head.format,
        "head": head.name,
        "parameters": head.parameters(),
        "device": head.device.type,
        "table": table.identity,
    }
    return f"{head.name}-{digest(what)[:8]}"


def save_classifier(
    head: Classifier,
    table: JoinedTable,
    folder: Path,
    *,
    weights: str,
    validation: Mapping[str, float],
    excluded: int = 0,
) -> Path:
    """Write a classifier's files and then its card into `folder`; returns the file that people take away."""
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
        transfer_learning=table.is_transfer_learning,
        weights=weights,
        parameters=head.parameters(),
        learned=head.learned_,
        validation=validation,
        fit_seconds=head.fit_seconds_,
        device=head.device_,
        versions=package_versions(),
        files=files,
        excluded=excluded,
        trusted=_trusted(folder / f"{head.name}{SKOPS}"),
    )
    write_json(folder / f"{head.name}.json", sealed({"format": head.format, **asdict(card)}, SEAL))
    return folder / card.main_file


def _trusted(path: Path) -> tuple[str, ...]:
    return tuple(types_to_trust(path.read_bytes())) if path.exists() else ()


def load_classifier(path: Path) -> tuple[Classifier, Card]:
    """Read a classifier by its joblib, its safetensors file or its card: from the safetensors file, which is data.

    Raises ClassifierError for a file or card that is missing, cut short, changed, of another format or malformed.
    """
    if not path.is_file() or path.suffix not in (".joblib", DATA, ".json"):
        raise ClassifierError(
            f"no classifier at {path}: expected xgb.joblib or another that xgb, compare or finetune has written"
        )
    card, data = read_card(path.with_suffix(".json")), path.with_suffix(DATA)
    for file in dict.fromkeys((path, data)):
        if file.suffix != ".json":
            _check_file(file, card)
    head = _unfitted(card)
    head.classes_ = card.classes
    try:
        head.restore(data)
    except ValueError as error:
        raise ClassifierError(
            f"{data} holds no {card.head} that its card tells of ({first_line(error)}): train it again"
        ) from error
    head.fit_seconds_ = card.fit_seconds
    head.learned_ = dict(card.learned)
    return head, card


def load_unseen(path: Path, card: Card) -> Unseen:
    """What the classifier at `path` said of images that it had not seen, kept beside it; raises ClassifierError."""
    file = path.with_suffix(UNSEEN)
    if file.name not in card.files:
        raise ClassifierError(
            f"{path} has no probabilities of images that it had not learnt from ({file.name}): take one of the heads"
        )
    _check_file(file, card)
    try:
        return Unseen.read(file)
    except ValueError as error:
        raise ClassifierError(f"{file} is damaged ({first_line(error)}): train it again") from error


def _check_file(path: Path, card: Card) -> None:
    try:
        intact = path.name in card.files and file_sha256(path) == card.files[path.name].sha256
    except OSError as error:
        raise ClassifierError(f"{path} cannot be read ({error.strerror}): the classifier is made from it") from error
    if not intact:
        raise ClassifierError(
            f"{path} is not the file its card names (its SHA-256 differs): delete {path.parent} and train again"
        )


def _unfitted(card: Card) -> Classifier:
    """What the card tells of, with the settings that it learnt with."""
    device = torch.device("cpu")
    if card.head in (NETWORK, FORMER_NETWORK):
        return NetworkClassifier(seed=0, device=device, settings=card.parameters)
    if card.head not in HEADS:
        raise ClassifierError(
            f"a card of the head {card.head!r} came, expected one of {', '.join((*HEADS, NETWORK))}: "
            "use the release that wrote it"
        )
    try:
        settings, seed = _settings_of(card), from_json(int, card.parameters.get("seed"))
    except (ValueError, SettingsError) as error:
        raise ClassifierError(f"the card of {card.head} has other parameters ({error}): train it again") from error
    return make_head(card.head, settings, seed=seed, device=device)


def _settings_of(card: Card) -> HeadSettings:
    """The settings of its head and, of one that is made of others, of these; raises ValueError for others."""
    told: dict[str, Json] = {card.head: card.parameters}
    parts = card.parameters.get("parts")
    if isinstance(parts, Mapping):
        told = {card.head: {**card.parameters, "parts": list(parts)}, **parts}
    return from_json(HeadSettings, {name: _but_for_seed(said) for name, said in told.items()})


def _but_for_seed(parameters: Json) -> Json:
    if isinstance(parameters, Mapping):
        return {name: value for name, value in parameters.items() if name != "seed"}
    return parameters


def _format_of(head: object) -> int:
    return (NetworkClassifier if head in (NETWORK, FORMER_NETWORK) else Head).format


def read_card(path: Path) -> Card:
    """Read a card and check that nobody has changed it; raises ClassifierError."""
    try:
        content = unsealed(read_json(path), SEAL)
    except OSError as error:
        raise ClassifierError(f"no card at {path}: a classifier is read together with the card beside it") from error
    except ValueError as error:
        raise ClassifierError(f"{path} is damaged ({error}): delete {path.parent} and train again") from error
    kept, expected = content.pop("format", None), _format_of(content.get("head"))
    if kept != expected:
        raise ClassifierError(
            f"{path} is of format {kept}, expected {expected}: train it again, or use the release that wrote it"
        )
    try:
        card = from_json(Card, content)
        if not card.trunks or not card.files:
            raise ValueError("it names no trunk or no file")
    except ValueError as error:
        raise ClassifierError(f"{path} is no card of format {expected} ({error}): train it again") from error
    return card


def package_versions() -> dict[str, str]:
    """Versions of Python and of PACKAGES, those that are installed under another name left out."""
    versions = {"python": platform.python_version()}
    for name in PACKAGES:
        with suppress(PackageNotFoundError):
            versions[name] = version(name)
    return versions
