"""What a classifier says of images, as rows, CSV or JSON: printed as it comes, so that little is held."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from rich.cells import cell_len

from features.storage import Json
from pipeline.console import result_rows, result_text, shown

FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""How a cell begins that spreadsheets take for a formula."""

OPEN = "?"
"""In place of a class that is left open, on the screen."""


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """What a classifier says of an image: (k,) `probabilities` of its `classes`, or the `error` for which it is unread.

    Its class is left open where no probability reaches `least`.

    >>> Prediction(image="a.jpg", classes=("beech", "oak"), probabilities=np.array([0.25, 0.75])).likely(1)
    [('oak', 0.75)]
    """

    image: str
    classes: Sequence[str] = ()
    probabilities: NDArray[np.floating] = field(default_factory=lambda: np.empty(0, np.float32))
    error: str = ""
    least: float = 0.0

    @property
    def is_open(self) -> bool:
        """Whether it is too unsure to name a class."""
        return not self.error and float(self.probabilities.max()) < self.least

    def likely(self, count: int) -> list[tuple[str, float]]:
        """The `count` most likely classes and their probabilities, the likeliest first."""
        order = np.argsort(-self.probabilities, kind="stable")[:count]
        return [(self.classes[number], float(self.probabilities[number])) for number in order]

    def to_json(self) -> dict[str, Json]:
        """`image`, then `class`, None if left open, `probability` and `probabilities`, or `error`."""
        if self.error:
            return {"image": self.image, "error": self.error}
        ((name, probability),) = self.likely(1)
        every = dict(zip(self.classes, self.probabilities.tolist(), strict=True))
        told = None if self.is_open else name
        return {"image": self.image, "class": told, "probability": probability, "probabilities": every}


def print_json(predictions: Iterable[Prediction], about: Mapping[str, Json]) -> None:
    """One object: what is `about` all of them, and `images`, a line each; in ASCII, which every screen shows."""
    result_text(json.dumps(about, indent=2).removesuffix("\n}") + ',\n  "images": [')
    for number, prediction in enumerate(predictions):
        result_text(("," if number else "") + "\n    " + json.dumps(prediction.to_json()))
    result_text("\n  ]\n}\n")


def print_csv(predictions: Iterable[Prediction]) -> None:
    """RFC 4180: lines end in CR LF, and what holds a comma, a quotation mark or an end of line is quoted."""
    result_text(_csv_line(("image", "class", "probability", "error")))
    for prediction in predictions:
        name, probability = next(iter(prediction.likely(1)), ("", ""))
        cells = (prediction.image, "" if prediction.is_open else name, probability, prediction.error)
        result_text(_csv_line([_as_cell(cell) for cell in cells]))


def print_rows(predictions: Iterable[Prediction], images: Sequence[str], classes: Sequence[str], most: int) -> None:
    """A row an image, or one for each of its `most` likely classes; `images` and `classes` are all that may come."""
    widths = [max(cell_len(shown(name)) for name in names) for names in (("image", *images), ("class", *classes))]
    rows = (row for prediction in predictions for row in _as_rows(prediction, most))
    result_rows(("image", "class", "probability"), rows, widths=(*widths, len("probability")), words=2)


def _csv_line(cells: Sequence[Json]) -> str:
    line = io.StringIO()
    csv.writer(line).writerow(cells)
    return line.getvalue()


def _as_cell(value: Json) -> Json:
    """A figure as it is, and text safe in a spreadsheet: an apostrophe before what would be taken for a formula."""
    if not isinstance(value, str):
        return value
    return f"'{shown(value)}" if value.startswith(FORMULA) else shown(value)


def _as_rows(prediction: Prediction, most: int) -> list[tuple[str, str, str]]:
    if prediction.error:
        return [(prediction.image, f"! {prediction.error}", "")]
    return [
        ("" if number else prediction.image, OPEN if prediction.is_open else name, f"{share:.1%}")
        for number, (name, share) in enumerate(prediction.likely(most))
    ]
