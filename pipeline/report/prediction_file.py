"""Predictions as a Parquet file, made part by part, so that a run that was killed goes on after its last part.

<path>          image, class, probability, error, and `probabilities`, a fixed-size list in the order of the classes
<path>.parts/   what is finished of it; gone once it is whole
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from features.errors import OutputError
from features.locks import locked
from features.sources.files import file_stamp
from features.storage import SCRATCH, check_writable, digest, remove_folder, replacing
from features.stores import opened
from pipeline.errors import PredictError
from pipeline.report.predictions import Prediction

PART_IMAGES = 1024

_PART = re.compile(rf"part-\d{{5,}}\.parquet|{re.escape(SCRATCH)}.*")
"""What a folder of parts holds: parts, and what a kill left of one."""

ABOUT = b"treehead.predictions"
"""Under which key a file's metadata say what decides its content."""


class Predicts(Protocol):
    """A classifier of image files; `identity` stands for all that decides a prediction but the image."""

    @property
    def identity(self) -> str:
        """SHA-256 of the classifier, and of what leaves classes open."""
        ...

    @property
    def classes(self) -> Sequence[str]:
        """The classes' names, in the order of the probabilities."""
        ...

    def predict(self, parts: Iterable[Sequence[Path]]) -> Iterator[Prediction]:
        """Classify images, given part by part, in order."""
        ...


@dataclass(frozen=True, kw_only=True)
class PredictionFile:
    """A whole file: how many images it has, how many of them were found finished, and those that could not be read.

    The classes of `left_open` images were left open.
    """

    path: Path
    images: int
    reused: int
    left_open: int
    unread: Sequence[Prediction]


def check_place(path: Path) -> None:
    """Raise PredictError or OutputError where predictions cannot be written to `path`, before any are made."""
    if path.suffix != ".parquet":
        raise PredictError(f"`out={path}` came: expected the name of a Parquet file, such as predictions.parquet")
    if path.exists() and _fingerprint(path) is None:
        raise PredictError(f"{path} is there and holds no predictions: choose another `out`")
    folder = _parts_folder(path)
    if folder.exists() and not (folder.is_dir() and all(_PART.fullmatch(each.name) for each in folder.iterdir())):
        raise PredictError(f"{folder} is there, and not only finished parts of predictions: choose another `out`")
    check_writable(path.parent)


def write_predictions(
    path: Path, paths: Sequence[Path], by: Predicts, *, on_images: Callable[[int], None]
) -> PredictionFile:
    """Classify the images at `paths` into a file, or find that done.

    Parts that another classifier has made, or of images that have changed since, are made again.
    """
    parts = [paths[start : start + PART_IMAGES] for start in range(0, len(paths), PART_IMAGES)]
    prints = [digest({"by": by.identity, "images": [[str(each), file_stamp(each)] for each in part]}) for part in parts]
    whole = digest(prints)
    folder = _parts_folder(path)
    with locked(folder):
        files = [folder / f"part-{number:05d}.parquet" for number in range(len(parts))]
        done = _fingerprint(path) == whole
        pending = [] if done else [number for number, file in enumerate(files) if _fingerprint(file) != prints[number]]
        images = sum(len(parts[number]) for number in pending)
        on_images(len(paths) - images)
        predictions = by.predict(parts[number] for number in pending)
        for number in pending:
            some = list(_counted(islice(predictions, len(parts[number])), on_images))
            _write_part(files[number], some, _schema(by.classes, prints[number]))
        if not done:
            _join(files, path, _schema(by.classes, whole))
        unread, left_open = _without_class(path)
        remove_folder(folder)
    return PredictionFile(path=path, images=len(paths), reused=len(paths) - images, left_open=left_open, unread=unread)


def _parts_folder(path: Path) -> Path:
    """Where finished parts lie; it is removed with all that it holds once the file is whole."""
    return path.with_name(f"{path.name}.parts")


def _counted(predictions: Iterable[Prediction], on_images: Callable[[int], None]) -> Iterator[Prediction]:
    for prediction in predictions:
        on_images(1)
        yield prediction


def _schema(classes: Sequence[str], fingerprint: str) -> pa.Schema:
    about = json.dumps({"fingerprint": fingerprint, "classes": list(classes)})
    fields: list[pa.Field[Any]] = [
        pa.field("image", pa.string(), nullable=False),
        pa.field("class", pa.string()),
        pa.field("probability", pa.float32()),
        pa.field("error", pa.string()),
        pa.field("probabilities", pa.list_(pa.float32(), len(classes))),
    ]
    return pa.schema(fields, metadata={ABOUT: about.encode()})


def _write_part(path: Path, predictions: Sequence[Prediction], schema: pa.Schema) -> None:
    likely = [next(iter(each.likely(1)), (None, None)) for each in predictions]
    names = [None if each.is_open else name for each, (name, _) in zip(predictions, likely, strict=True)]
    columns: list[Any] = [
        pa.array([each.image for each in predictions], pa.string()),
        pa.array(names, pa.string()),
        pa.array([share for _, share in likely], pa.float32()),
        pa.array([each.error or None for each in predictions], pa.string()),
        pa.array([None if each.error else np.asarray(each.probabilities) for each in predictions], schema.types[-1]),
    ]
    with replacing(path) as scratch:
        pq.write_table(pa.Table.from_arrays(columns, schema=schema), scratch, compression="zstd")


def _join(parts: Iterable[Path], path: Path, schema: pa.Schema) -> None:
    """Write the rows of `parts`, one in memory at a time, into one file."""
    with (
        replacing(path, _parts_folder(path)) as scratch,
        pq.ParquetWriter(scratch, schema, compression="zstd") as writer,
    ):
        for part in parts:
            writer.write_table(pq.read_table(opened(part)).cast(schema))


def _fingerprint(path: Path) -> str | None:
    """What decides the content of a file of predictions; None where there is no such file."""
    try:
        about = json.loads((pq.read_schema(opened(path)).metadata or {})[ABOUT])
        return str(about["fingerprint"])
    except (OSError, pa.ArrowException, KeyError, TypeError, ValueError):
        return None


def _without_class(path: Path) -> tuple[list[Prediction], int]:
    """Images that could not be read, and how many others have no class."""
    try:
        table = pq.read_table(opened(path), columns=["image", "error"], filters=pc.field("class").is_null())
    except (OSError, pa.ArrowException) as error:
        raise OutputError(f"{path} is damaged ({error}): delete it and predict again") from error
    unread = [Prediction(**row) for row in table.to_pylist() if row["error"]]
    return unread, len(table) - len(unread)
