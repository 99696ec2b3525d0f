"""What an exported classifier says, held against the classifier itself: nothing is written that differs.

From the features of the table's own test and validation images its probabilities are to be those of the classifier, and
from their pixels nearly so.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray

from features.errors import DecodeError, first_line
from features.loop import in_order, run_batches
from features.sources.decode import decode
from features.sources.source import Source
from features.table.joined import JoinedTable
from features.table.table import Rows
from features.trunk.exported import FEATURES, IMAGES
from features.trunk.trunk import Trunk
from models.export.graph import as_bytes
from models.export.heads import LABEL, PROBABILITIES
from models.heads.head import Classifier, Probabilities
from pipeline.console import progress
from pipeline.errors import ExportError

MOST_IMAGES = 10_000

BY_FEATURES, BY_PIXELS = 1e-4, 1e-2
"""How far a probability may be from the classifier's."""

SAME_CLASS = 0.999
"""The share of images that must be given the classifier's class."""

TOGETHER = 32

TRY_AGAIN = "train it again or report this"


@dataclass(frozen=True, kw_only=True)
class Checked:
    """How far two say the same of `images`: the largest difference of a probability, and the share of like classes."""

    images: int
    off: float
    same: float

    def in_words(self) -> str:
        """As it is shown."""
        return f"{self.images:,} images, probabilities within {self.off:.1e}, the same class of {self.same:.2%}"


@dataclass(frozen=True, kw_only=True)
class Judged:
    """The images that an export is held against its classifier on, and what that says by the table's features.

    `tested` are those of them that are of the test split.
    """

    keys: NDArray[np.object_]
    labels: NDArray[np.int32]
    tested: NDArray[np.bool_]
    said: Probabilities

    def accuracy(self, said: Probabilities) -> float:
        """The share of test images that is right by other probabilities."""
        return float((said.argmax(axis=1) == self.labels)[self.tested].mean())


def session(model: onnx.ModelProto) -> onnxruntime.InferenceSession:
    """ONNX Runtime with a model; each call computes in the thread that makes it. Raises ExportError."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(as_bytes(model), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # it has many of its own
        raise ExportError(
            f"not exported: ONNX Runtime cannot load what was made ({first_line(error)}): report this"
        ) from error


def check_features(head: Classifier, exported: onnx.ModelProto, table: JoinedTable) -> tuple[Judged, Checked]:
    """Hold a head's export against it on the features of the table; raises ExportError where they differ."""
    running, parts, theirs = session(exported), [], []
    for split, rows in _rows(table):
        parts.append((rows.keys, rows.y, np.full(len(rows), split == "test"), head.predict_proba(rows.x)))
        theirs.append(_run(running, FEATURES, rows.x, head.classes_))
    if not parts:
        raise ExportError(f"{table.folder} has no test or validation rows to check an export on: give it some images")
    keys, labels, tested, said = (np.concatenate(column) for column in zip(*parts, strict=True))
    judged = Judged(keys=keys, labels=labels, tested=tested, said=said)
    return judged, agreement(judged.keys, said, np.concatenate(theirs), by="features", most=BY_FEATURES)


def _rows(table: JoinedTable) -> Iterator[tuple[str, Rows]]:
    """Test rows, then validation rows, MOST_IMAGES in all."""
    left = MOST_IMAGES
    for split in ("test", "validation"):
        for rows in table.batches(split) if table.rows.get(split) else ():
            if left > 0:
                yield split, Rows(keys=rows.keys[:left], x=rows.x[:left], y=rows.y[:left])
            left -= len(rows)


def agreement(
    keys: NDArray[np.object_],
    said: Probabilities,
    theirs: Probabilities,
    *,
    by: str,
    most: float,
    advice: str = TRY_AGAIN,
) -> Checked:
    """How far `theirs` are those that the classifier `said` of images; raises ExportError where that is too far."""
    checked = off_by(said, theirs)
    expected = f"{most:g} at most and {SAME_CLASS:.1%}" if most < 1 else f"{SAME_CLASS:.1%}"
    if checked.off > most or checked.same < SAME_CLASS:
        raise ExportError(
            f"not exported: by {by} of {checked.images:,} images ONNX Runtime is up to {checked.off:.2g} off the "
            f"classifier's probabilities ({keys[_distances(said, theirs).argmax()]}), and says its class of "
            f"{checked.same:.2%}: expected {expected}, {advice}"
        )
    return checked


def off_by(said: Probabilities, theirs: Probabilities) -> Checked:
    """How far two say the same, both (n, k)."""
    same = float((said.argmax(axis=1) == theirs.argmax(axis=1)).mean())
    return Checked(images=len(said), off=float(_distances(said, theirs).max()), same=same)


def _distances(said: Probabilities, theirs: Probabilities) -> NDArray[np.float32]:
    """The largest difference of a probability of each image, (n,)."""
    distances: NDArray[np.float32] = np.nan_to_num(np.abs(said - theirs), nan=np.inf).max(axis=1)
    return distances


def _run(
    running: onnxruntime.InferenceSession, name: str, value: NDArray[np.generic], classes: Sequence[str]
) -> Probabilities:
    """Probabilities; raises ExportError where the label is not the likeliest class."""
    found: Any = running.run([PROBABILITIES, LABEL], {name: value})
    said: Probabilities = found[0]
    if list(found[1]) != [classes[number] for number in said.argmax(axis=1)]:
        raise ExportError("not exported: the labels are not those of the highest probabilities: report this")
    return said


class Pixels:
    """The images of a table by key, decoded as the classifier's features were; `prepared` for `trunks`, or whole."""

    def __init__(self, source: Source, trunks: Sequence[Trunk], *, prepared: bool) -> None:
        self.source, self.trunks, self.prepared = source, trunks, prepared
        self._rows = dict(zip(source.items["key"], map(int, source.items.index), strict=True))

    def of(self, key: str) -> NDArray[np.uint8]:
        """(1, h, w, 3); raises ExportError where the image can no longer be read."""
        try:
            pixels = decode(self.source.read(self._rows[key]), self.trunks[0].spec)
        except (OSError, DecodeError) as error:
            raise ExportError(f"{key} could not be read ({error}), and pixels are checked on it: mend it") from error
        image = np.broadcast_to(pixels, (*pixels.shape[:2], 3))
        return self.square(image, self.trunks[0]) if self.prepared else np.ascontiguousarray(image)[None]

    @staticmethod
    def square(image: NDArray[np.uint8], trunk: Trunk) -> NDArray[np.uint8]:
        """(1, s, s, 3), as a trunk takes it."""
        planes = torch.from_numpy(np.array(image)).permute(2, 0, 1)
        return np.ascontiguousarray(trunk.prepare(planes).permute(1, 2, 0).numpy())[None]

    def said_by(self, model: onnx.ModelProto, keys: Sequence[str], classes: Sequence[str]) -> Probabilities:
        """What an exported classifier says of images, one at a time, (n, k)."""
        running = session(model)

        def say(part: Sequence[str]) -> Probabilities:
            return np.concatenate([_run(running, IMAGES, self.of(key), classes) for key in part])

        parts = (keys[start : start + TOGETHER] for start in range(0, len(keys), TOGETHER))
        return _gathered(in_order(say, parts, torch.device("cpu")), len(keys), "pixels to classes")

    def said_here(self, head: Classifier, keys: Sequence[str]) -> Probabilities:
        """What the classifier says of images with features that `trunks` give now, (n, k)."""
        readers = [partial(self.source.read, self._rows[key]) for key in keys]
        features = (np.hstack(batch.features).astype(np.float32) for batch in run_batches(self.trunks, [readers]))
        return _gathered((head.predict_proba(x) for x in features), len(keys), "pixels to classes, by the classifier")


def _gathered(parts: Iterable[Probabilities], count: int, what: str) -> Probabilities:
    done = []
    with progress(what, count) as advance:
        for part in parts:
            done.append(part)
            advance(len(part), "")
    return np.concatenate(done)
