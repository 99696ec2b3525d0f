"""A comparison as an object that one can query; `metrics.json` holds it, the page and the terminal are views of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

import pandas as pd

from features.storage import Json, from_json, read_json, sealed, unsealed, write_json
from features.stores import place
from features.trunk.spec import TrunkSpec
from models.columns.nodes import NodeScores
from models.trials import Tried
from pipeline.errors import ResultError
from pipeline.inspection.finding import Finding
from pipeline.provenance import Provenance
from pipeline.report.curve import Curves
from pipeline.report.mistakes import Mistake
from pipeline.report.reliability import Reliability
from pipeline.report.simultaneous import Difference
from pipeline.report.statistics import Predicted, Scores

FORMAT = 12
"""Raised when the content of `metrics.json` or of the report changes, so that older runs are not shown for newer."""

METRICS = "metrics.json"
SEAL = "metrics_sha256"

Tuning = Mapping[str, tuple[Tried, ...]]
"""What was tried in the search for each head's settings, in order, by the head's name."""


@dataclass(frozen=True, kw_only=True)
class ContenderResult(Scores, Predicted):
    """How a head did on the test images, what it cost, and what it is.

    `fit_seconds` count reading the table, `tune_seconds` the search before; `bytes`, `sha256` and `file` are of what
    people take away, `predict_us_per_image` microseconds from features to probabilities, of a whole network from image
    files, None where that is not known. `worse_than_guess` says that on validation images a guess by the classes'
    frequencies has as low a log-loss.
    """

    fit_seconds: float
    tune_seconds: float
    bytes: int
    sha256: str
    file: str
    parameters: Mapping[str, Json]
    learned: Mapping[str, Json]
    predict_us_per_image: float | None
    worse_than_guess: bool
    reliability: Reliability

    @property
    def parts(self) -> tuple[str, ...]:
        """The names of the heads that it is made of."""
        parts = self.parameters.get("parts")
        return tuple(parts) if isinstance(parts, Mapping) else ()


@dataclass(frozen=True, kw_only=True)
class Recommendation:
    """The contender to ship, and why, in a sentence each."""

    name: str
    reasons: tuple[str, ...]


SHOWN = (
    "accuracy",
    "accuracy_low",
    "accuracy_high",
    "macro_f1",
    "log_loss",
    "worse_than_guess",
    "fit_seconds",
    "tune_seconds",
    "predict_us_per_image",
    "bytes",
)
"""The columns of `Comparison.to_pandas`."""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Heads held against one another on the same test images.

    `table` names the features that they learnt from, one of `trunks` a node; where there were several, `nodes` says how
    each does, and `network_us` what features of each network would cost an image, in microseconds, if it were alone.
    `rows` counts the images of each split, `test_duplicates` the test images that are, byte for byte, training or
    validation images as well, `unreadable` those that are in no figure; features took `features_us_per_image`
    microseconds. The contenders were tested on `images`: on the test split where `folds` is 0, else on each image that
    may be learnt from, by those who learnt from the other folds. A guess at the class that has most of them would be
    right in `largest_class` (share). `class_counts` has each split's images of each class. None stands for what was not
    measured. `heads` come best first, `differences` and `log_loss_differences` have each pair of them once; `failed`
    says why by name. `recommended` is the one to ship, `given_test` what it makes, where the others were
    judged in folds, of a test split that was given, `mistakes` are its own, the most confident first (see
    `find_mistakes` for which), `curves` say what more labels would bring, `findings` what is wrong with the images.
    `made` says when, with what and by which command.

    >>> comparison = Comparison.open("comparison")
    >>> sorted(comparison.heads), comparison.best
    (['knn', 'linear'], 'linear')
    >>> print(f"{comparison['knn'].accuracy:.0%} of {comparison.images} images, {comparison.folds} folds")
    100% of 48 images, 5 folds
    >>> comparison.difference("knn", "linear").certain
    False
    >>> comparison.to_pandas()[["accuracy", "log_loss"]].shape
    (2, 2)
    """

    dataset: str
    classes: tuple[str, ...]
    table: str
    trunks: tuple[TrunkSpec, ...]
    transfer_learning: bool
    rows: Mapping[str, int]
    unreadable: int
    test_duplicates: int
    features_us_per_image: float | None
    folds: int
    images: int
    largest_class: float
    class_counts: Mapping[str, tuple[int, ...]]
    heads: Mapping[str, ContenderResult]
    differences: tuple[Difference, ...]
    log_loss_differences: tuple[Difference, ...]
    verdict: tuple[str, ...]
    recommended: Recommendation
    given_test: Scores | None
    mistakes: tuple[Mistake, ...]
    curves: Curves
    findings: tuple[Finding, ...]
    tuning: Tuning
    nodes: NodeScores | None
    network_us: Mapping[str, float | None]
    failed: Mapping[str, str]
    made: Provenance

    @classmethod
    def open(cls, path: Path | str) -> Self:
        """The comparison in a `metrics.json`, or in the folder that holds one; raises ResultError."""
        file = place(path)
        file = file / METRICS if file.is_dir() else file
        try:
            return cls.from_json(unsealed(read_json(file), SEAL))
        except OSError as error:
            raise ResultError(
                f"no comparison at {file} ({error.strerror}): give a folder or metrics.json that compare has written"
            ) from error
        except ValueError as error:
            raise ResultError(f"{file} is no comparison ({error}): delete it and compare again") from error

    def write(self, folder: Path) -> None:
        """Write `metrics.json` into `folder`, sealed with the SHA-256 of its content."""
        write_json(folder / METRICS, sealed(self.to_json(), SEAL))

    @classmethod
    def from_json(cls, content: Json) -> Self:
        """The comparison that `to_json` wrote; raises ValueError for anything else."""
        fields = dict(content) if isinstance(content, Mapping) else {}
        kept = fields.pop("format", None)
        if kept != FORMAT:
            raise ValueError(f"format {kept}, expected {FORMAT}")
        return from_json(cls, fields)

    def to_json(self) -> dict[str, Json]:
        """What `metrics.json` holds; `from_json` turns it back."""
        return {"format": FORMAT, **asdict(self)}

    def to_pandas(self) -> pd.DataFrame:
        """One row a head, best first, named after it: scores (shares, nats) and costs."""
        rows = {name: {column: getattr(head, column) for column in SHOWN} for name, head in self.heads.items()}
        return pd.DataFrame.from_dict(rows, orient="index", columns=list(SHOWN))

    @property
    def best(self) -> str:
        """The name of the head with the highest accuracy; of several, of the first."""
        return next(iter(self.heads))

    @property
    def shipped(self) -> ContenderResult:
        """The result of the recommended head."""
        return self[self.recommended.name]

    def __getitem__(self, name: str) -> ContenderResult:
        """The result of a head; raises ResultError for one that was not compared."""
        if name not in self.heads:
            raise ResultError(f"no head {name!r} was compared: expected one of {', '.join(self.heads)}")
        return self.heads[name]

    def difference(self, first: str, second: str) -> Difference:
        """The accuracy of `first` less that of `second`; raises ResultError unless they are two that were compared."""
        for pair in self.differences:
            if (pair.first, pair.second) == (first, second):
                return pair
            if (pair.second, pair.first) == (first, second):
                return pair.swapped()
        raise ResultError(f"{first!r} and {second!r} came: expected two of {', '.join(self.heads)}")
