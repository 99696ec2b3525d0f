"""What a look at a set of images finds: which images, what is the matter with them, and what it does to accuracy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from features.near.pairs import NearDoubles

SHOWN = 24
"""Images of a finding that a page has pictures of."""

LISTING = "findings"
"""What the files are called that all findings about a set of images are in."""

COLUMNS = ("code", "key", "split", "label", "other", "suggested", "score")
"""Of what lists all images found: `other` is the image it is too much like, `suggested` the class it looks like."""


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What checks look at: n images in the order of `images`.

    `images` has columns `key`, `split`, `label`, `group` (null where an image is alone) and those of
    `FeatureTable.images`, and `odd`, how unlike the others each is. `families` (n,) is the same number for images that
    splits and folds keep together, `doubles` pairs of row numbers. `said` (n, k) is what a classifier said of each
    image that it had not seen, rows of NaN where none did. `judged` (n,) are the images that accuracy is of; `in_folds`
    whether each of them was judged by what learnt from all others.
    """

    classes: tuple[str, ...]
    images: pd.DataFrame
    families: NDArray[np.intp]
    doubles: NearDoubles
    said: NDArray[np.float32]
    judged: NDArray[np.bool_]
    in_folds: bool

    @property
    def labels(self) -> NDArray[np.int32]:
        """The class of each image, (n,)."""
        return self.images["label"].to_numpy(np.int32)

    @property
    def right(self) -> NDArray[np.bool_]:
        """Whether what was said of each image is right, (n,); of what nothing was said of, it is not."""
        known = np.isfinite(self.said).all(axis=1)
        found: NDArray[np.bool_] = known & (np.nan_to_num(self.said).argmax(axis=1) == self.labels)
        return found


@dataclass(frozen=True, kw_only=True)
class Found:
    """A finding: its `code`, a sentence, and the images, by row number (m,), what is worst first.

    `others` (m,) are the images that they are too much like, `suggested` (m,) the classes that they look like, both
    where there are such; `scores` (m,) say how sure it is, in what unit the kind of finding has. Of some findings, such
    as classes of unlike size, there are no `rows` to list.
    """

    code: str
    sentence: str
    rows: NDArray[np.intp] = field(default_factory=lambda: np.empty(0, np.intp))
    scores: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))
    others: NDArray[np.intp] | None = None
    suggested: NDArray[np.intp] | None = None


@dataclass(frozen=True, kw_only=True)
class Shown:
    """An image that a page shows, by `key`, of the class `label`; `other` and `suggested` as in COLUMNS."""

    key: str
    label: int
    other: str | None
    other_label: int | None
    suggested: int | None


@dataclass(frozen=True, kw_only=True)
class Finding:
    """A finding as a report has it: how many images it is of, and those that are `shown`, SHOWN at most.

    Judged on images that have it not, accuracy would be `without` in place of `accuracy`; both None where none of the
    images judged has it, or all have, and where nothing was said of any.
    """

    code: str
    sentence: str
    images: int
    accuracy: float | None
    without: float | None
    shown: tuple[Shown, ...]


def told(found: Found, facts: Facts) -> Finding:
    """A finding for a report."""
    with_it = np.zeros(len(facts.images), bool)
    with_it[found.rows] = True
    rest = facts.judged & ~with_it
    known = bool(np.isfinite(facts.said).any())
    matters = known and bool((facts.judged & with_it).any() and rest.any())
    return Finding(
        code=found.code,
        sentence=found.sentence,
        images=len(np.unique(found.rows)),
        accuracy=float(facts.right[facts.judged].mean()) if matters else None,
        without=float(facts.right[rest].mean()) if matters else None,
        shown=tuple(_shown(found, facts, place) for place in _foremost(found)),
    )


def listed(found: Sequence[Found], facts: Facts) -> pd.DataFrame:
    """All images found, one row each time that one is, see COLUMNS."""
    parts = [_listed(each, facts) for each in found if len(each.rows)]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=list(COLUMNS))


def _listed(found: Found, facts: Facts) -> pd.DataFrame:
    images, keys = facts.images.iloc[found.rows], facts.images["key"].to_numpy()
    classes = np.array((*facts.classes, None), object)  # the last is of UNLABELLED
    return pd.DataFrame(
        {
            "code": found.code,
            "key": images["key"].to_numpy(),
            "split": images["split"].to_numpy(),
            "label": classes[images["label"]],
            "other": None if found.others is None else keys[found.others],
            "suggested": None if found.suggested is None else classes[found.suggested],
            "score": found.scores,
        },
        columns=list(COLUMNS),
    )


def _foremost(found: Found) -> NDArray[np.intp]:
    """The places of the first SHOWN images, or pairs of them, each once."""
    pairs = found.rows[:, None] if found.others is None else np.sort([found.rows, found.others], axis=0).T
    return np.sort(np.unique(pairs, axis=0, return_index=True)[1])[:SHOWN]


def _shown(found: Found, facts: Facts, place: int) -> Shown:
    keys, labels = facts.images["key"], facts.labels
    other = None if found.others is None else int(found.others[place])
    return Shown(
        key=str(keys.iloc[found.rows[place]]),
        label=int(labels[found.rows[place]]),
        other=None if other is None else str(keys.iloc[other]),
        other_label=None if other is None else int(labels[other]),
        suggested=None if found.suggested is None else int(found.suggested[place]),
    )


def pictured(findings: Sequence[Finding]) -> list[str]:
    """The keys of the images that a page shows."""
    return [key for each in findings for one in each.shown for key in (one.key, one.other) if key]


def effect(finding: Finding) -> tuple[str, str]:
    """Accuracy with and without the images of a finding, in per cent."""
    if finding.accuracy is None or finding.without is None:
        return "", ""
    return f"{100 * finding.accuracy:.2f}", f"{100 * finding.without:.2f}"
