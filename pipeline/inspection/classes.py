"""Classes that are few, unlike in size, or missing from a split, and groups that are in several."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from features.errors import counted, some
from features.sources.source import SPLITS
from pipeline.inspection.finding import Facts, Found

FEW = 10
"""Training images below which a class is hardly learnt."""

TIMES = 10
"""How many times the smallest class the largest may be."""


def check_classes(facts: Facts) -> Iterator[Found]:
    """Imbalance, classes of few images, and classes that a split lacks."""
    counts = pd.crosstab(facts.images["label"], facts.images["split"])
    counts = counts.reindex(range(len(facts.classes)), fill_value=0)
    every, names = counts.sum(axis=1), np.array(facts.classes)
    there = np.flatnonzero(every)
    first, last = there[every[there].argmax()], there[every[there].argmin()]
    most, least = every[first], every[last]
    if most > TIMES * least:
        yield Found(
            code="imbalance",
            sentence=f"{names[first]} has {most / least:.0f} times the images of {names[last]} ({most:,} and "
            f"{least:,}): accuracy says little of the small classes, recall does",
        )
    few = counts.index[counts.get("train", every) < FEW]
    if len(few):
        yield Found(code="few", sentence=f"{_classes(names[few])} fewer than {FEW} training images")
    for split in SPLITS:
        if split in counts and (counts[split] == 0).any():
            lacking = names[counts.index[counts[split] == 0]]
            yield Found(code="absent", sentence=f"{_classes(lacking)} no {split} images")


def check_groups(facts: Facts) -> Iterator[Found]:
    """Images of a group that is in several splits, where splits were given."""
    grouped = facts.images[facts.images["group"].notna()]
    spread = grouped.groupby("group")["split"].transform("nunique") > 1
    rows = grouped.index[spread].to_numpy(np.intp)
    rows = rows[facts.judged[rows]]
    if len(rows) and not facts.in_folds:
        yield Found(
            code="group",
            sentence=f"{counted(len(rows), 'tested image')} of groups that are learnt from too: accuracy is too good",
            rows=rows,
            scores=np.zeros(len(rows)),
        )


def _classes(names: np.ndarray) -> str:
    """The classes by name, and the verb of what they have."""
    return f"{len(names)} classes ({some(list(names))}) have" if len(names) > 1 else f"the class {names[0]} has"
