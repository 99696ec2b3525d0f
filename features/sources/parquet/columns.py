"""Which column of an image Parquet file holds the image and which the label, and each row's class by name."""

from __future__ import annotations

import json
import logging
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from features.errors import SourceError, first_line, some
from features.sources.columns import by_name, nested, pick, plain_name, refuse_nested

logger = logging.getLogger(__name__)

IMAGE_NAMES = re.compile(r"(image|img|photo|picture|pic)s?(bytes|data)?|jpe?g|png|webp|file|bytes|content|data")


@dataclass(frozen=True, kw_only=True)
class Columns:
    """The column of the images, that of the labels (empty: none), and the class names that the schema gives."""

    image: str
    label: str
    classes: tuple[str, ...]


def image_columns(path: Path, schema: pa.Schema, asked: dict[str, str]) -> Columns:
    """Find the columns by what is `asked`, by the hub's metadata, or else by their names.

    Raises SourceError where there is none or more than one.
    """
    features, names = _features(path, schema), schema.names
    encoded = [field.name for field in schema if holds_images(field.type)]
    known, called = _of_kind(features, encoded, "Image"), list(filter(called_image, encoded))
    image = pick(str(path), names, "path", asked, known, called, encoded)
    if image not in encoded:
        raise SourceError(_no_image(path, schema))
    others = [name for name in names if name != image]
    known = _of_kind(features, others, "ClassLabel")
    label = pick(str(path), names, "label", asked, known, *by_name(others, "label"))
    refuse_nested(str(path), schema, {"label": label} if label else {})
    if not label and others:
        logger.warning("%s: no column is a label by its name: give `columns=label=%s` if that is one", path, others[0])
    return Columns(image=image, label=label, classes=_class_names(features.get(label, {})))


def called_image(name: str) -> bool:
    """Whether a column's name says that it holds images."""
    return bool(IMAGE_NAMES.fullmatch(plain_name(name)))


def holds_images(kind: pa.DataType) -> bool:
    """Whether a column of this type may hold encoded images: bytes, or a record with bytes."""
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    position = kind.get_field_index("bytes") if pa.types.is_struct(kind) else -1
    return nested(kind.field(position).type if position >= 0 else kind) == "bytes"


def _no_image(path: Path, schema: pa.Schema) -> str:
    lists = [field.name for field in schema if holds_images(getattr(field.type, "value_type", pa.null()))]
    if lists:
        return f"{path} has several images a row in {lists[0]!r}: expected one image and one label a row"
    found = some(schema.names)
    return f"{path} has the columns {found}: expected image (bytes, path) and label, or a list given by its own name"


def _features(path: Path, schema: pa.Schema) -> dict[str, dict[str, Any]]:
    """What the hub's metadata tells of each column; raises SourceError where it is of another layout."""
    try:
        metadata = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
        features = metadata.get("info", {}).get("features") or {}
        return {name: about for name, about in features.items() if isinstance(about, dict)}
    except (ValueError, AttributeError) as error:
        raise SourceError(f"{path} has metadata of another layout ({first_line(error)}): expected the hub's") from error


def _of_kind(features: dict[str, dict[str, Any]], names: list[str], kind: str) -> list[str]:
    return [name for name in names if features.get(name, {}).get("_type") == kind]


def _class_names(about: dict[str, Any]) -> tuple[str, ...]:
    """The class names that the metadata gives, or none; one name given twice gets its number."""
    given = about.get("names")
    if isinstance(given, dict):
        given = [given[number] for number in sorted(given, key=int)]
    names = given if isinstance(given, list) else []
    return tuple(f"{name} ({number})" if names.count(name) > 1 else str(name) for number, name in enumerate(names))


def row_classes(path: Path, labels: Any, columns: Columns) -> list[str | None]:
    """The class of each row in a slice of the label column, by name; None where a row has no label.

    Raises SourceError for fractions, and for numbers that the schema has no class for.
    """
    if pa.types.is_null(labels.type):
        return [None] * len(labels)
    coded = labels if pa.types.is_dictionary(labels.type) else labels.dictionary_encode()
    names = [_name(path, label, columns) for label in coded.dictionary.to_pylist()]
    return [None if code is None else names[code] for code in coded.indices.to_pylist()]


def _name(path: Path, label: Any, columns: Columns) -> str | None:
    if isinstance(label, bool):
        label = int(label) if columns.classes else str(label)
    if label is None or not isinstance(label, int | float):
        return None if label is None else str(label)
    if label < 0 or label != label:  # the hub's -1, or NaN
        return None
    if not float(label).is_integer():
        raise SourceError(f"{path} has the label {label} in {columns.label!r}: expected classes, not fractions")
    if columns.classes and label >= len(columns.classes):
        raise SourceError(
            f"{path} has the label {label:.0f}, but names {len(columns.classes)} classes: fetch the file again"
        )
    return columns.classes[int(label)] if columns.classes else str(int(label))
