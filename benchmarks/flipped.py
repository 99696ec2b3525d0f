"""Labels that are changed on purpose, and how many of them confident learning finds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score

from features.sources.source import SPLITS
from features.table.folded import FoldedTable
from models.heads.registry import HeadSettings
from models.unseen import Unseen
from pipeline.config import USUAL_FOLDS, LearningConfig
from pipeline.inspection.labels import suspect_labels
from pipeline.stages.folds import run_folds
from pipeline.stages.heads import make_heads
from pipeline.stages.inspect import JUDGE

SHARE = 0.05
"""Of all labels, that are changed."""


@dataclass(frozen=True, kw_only=True)
class Flipped:
    """What is found of `flipped` labels of a set, changed in the way `how`: in `suspect` images `right`.

    `average` is the average precision when all images come by self-confidence, `cleanlab` that of cleanlab's ranking of
    the same probabilities, with as many suspects and right ones among them as it names; None where it is not here.
    """

    dataset: str
    trunk: str
    how: str
    images: int
    flipped: int
    suspect: int
    right: int
    average: float
    cleanlab: tuple[int, int, float] | None

    @property
    def recall(self) -> float:
        """The share of the labels changed that are suspect."""
        return self.right / self.flipped

    @property
    def precision(self) -> float:
        """The share of suspect labels that were changed; what was wrong before counts against it."""
        return self.right / max(self.suspect, 1)


def flip_labels(table: FoldedTable, trunk: str, learning: LearningConfig) -> Iterator[Flipped]:
    """Change labels at random, then between the two classes most often confused, and look for them."""
    random = np.random.default_rng(learning.features.run.seed)
    count, classes = round(SHARE * len(table.keys)), len(table.classes)
    some = random.permutation(len(table.keys))[:count]
    anywhere = table.all_labels.copy()
    anywhere[some] = (anywhere[some] + random.integers(1, classes, count)) % classes
    yield _found(table, anywhere, trunk, "at random", learning)
    pair = _most_confused(_said(table, learning), classes)
    of_pair = random.permutation(np.flatnonzero(np.isin(table.all_labels, pair)))
    confused = table.all_labels.copy()
    some = of_pair[: min(count, len(of_pair) // 5)]
    confused[some] = sum(pair) - confused[some]
    how = " and ".join(table.classes[label] for label in pair)
    yield _found(table, confused, trunk, how, learning)


def _found(table: FoldedTable, labels: NDArray[np.int32], trunk: str, how: str, learning: LearningConfig) -> Flipped:
    said = _said(table.with_labels(labels), learning)
    flipped = (labels != table.all_labels)[_places(table, said)]
    suspect, _ = suspect_labels(said.probabilities, said.labels)
    own = said.probabilities[np.arange(len(said)), said.labels]
    return Flipped(
        dataset=table.dataset,
        trunk=trunk,
        how=how,
        images=len(said),
        flipped=int(flipped.sum()),
        suspect=len(suspect),
        right=int(flipped[suspect].sum()),
        average=float(average_precision_score(flipped, -own)),
        cleanlab=_by_cleanlab(said, flipped),
    )


def _said(table: FoldedTable, learning: LearningConfig) -> Unseen:
    """What is said of each image by who has learnt from the others, with the labels of `table`."""
    (judge,) = make_heads([JUDGE], HeadSettings(), learning.features.run)
    with TemporaryDirectory() as out:  # what is kept by the table's name must not be taken for that of other labels
        run = replace(learning.features.run, out=Path(out))
        apart = replace(learning, features=replace(learning.features, run=run))
        return run_folds([judge], table, apart, folds=USUAL_FOLDS, splits=SPLITS)[JUDGE]


def _places(table: FoldedTable, said: Unseen) -> NDArray[np.intp]:
    order = np.argsort(table.keys)
    places: NDArray[np.intp] = order[np.searchsorted(table.keys[order], said.keys)]
    return places


def _most_confused(said: Unseen, classes: int) -> tuple[int, int]:
    """The two classes that are most often taken for one another."""
    counts = np.zeros((classes, classes), np.int64)
    np.add.at(counts, (said.labels, said.probabilities.argmax(axis=1)), 1)
    both = np.triu(counts + counts.T, 1)
    first, second = np.unravel_index(both.argmax(), both.shape)
    return int(first), int(second)


def _by_cleanlab(said: Unseen, flipped: NDArray[np.bool_]) -> tuple[int, int, float] | None:
    if find_spec("cleanlab") is None:
        return None
    from cleanlab.filter import find_label_issues
    from cleanlab.rank import get_label_quality_scores

    issues: Any = find_label_issues(said.labels, said.probabilities, n_jobs=1)
    quality: Any = get_label_quality_scores(said.labels, said.probabilities)
    return int(issues.sum()), int(flipped[issues].sum()), float(average_precision_score(flipped, -quality))
