"""Labels that look wrong: confident learning on what classifiers say of images that they have not seen.

After Northcutt, Jiang and Chuang (2021), Confident learning: estimating uncertainty in dataset labels, JAIR 70.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from features.errors import counted
from pipeline.inspection.finding import Facts, Found


def check_labels(facts: Facts) -> Iterator[Found]:
    """Images that classifiers are sure to be of another class, the least likely label first."""
    known = np.flatnonzero(np.isfinite(facts.said).all(axis=1))
    if not len(known):
        return
    said, labels = facts.said[known], facts.labels[known]
    right = float(np.mean(said.argmax(axis=1) == labels))
    if right <= np.bincount(labels).max() / len(labels):
        return  # they know no more than which class is the largest, and can say nothing of labels
    places, suggested = suspect_labels(said, labels)
    if len(places):
        rows, own = known[places], said[places, labels[places]].astype(np.float64)
        yield Found(
            code="label",
            sentence=f"{counted(len(rows), 'image')} of {len(known):,} may be labelled wrong: classifiers that had not "
            f"seen them, and are right about {right:.0%} of all, are sure of another class",
            rows=rows,
            suggested=suggested,
            scores=own,
        )


def suspect_labels(
    probabilities: NDArray[np.floating], y: NDArray[np.int32]
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Which of n labels look wrong, by (n, k) out-of-fold probabilities: places (m,), and the likelier classes (m,).

    A class is meant with confidence where its probability is at least its mean among the images that have its label;
    the images that are, with confidence, of another class than their label says are the off-diagonal of the confident
    joint. They come by self-confidence, the probability of the label as it is, lowest first.

    >>> probabilities = np.array([[0.9, 0.1], [0.8, 0.2], [0.1, 0.9], [0.2, 0.8], [0.05, 0.95]])
    >>> suspect_labels(probabilities, np.array([0, 0, 1, 1, 0], np.int32))
    (array([4]), array([1]))
    """
    places, classes = np.arange(len(y)), probabilities.shape[1]
    own = probabilities[places, y].astype(np.float64)
    count = np.bincount(y, minlength=classes)
    mean = np.bincount(y, own, minlength=classes) / np.maximum(count, 1)
    threshold = np.where(count > 0, mean, np.inf)  # of a class that no label names nothing is known
    sure = np.where(probabilities >= threshold, probabilities, -1.0)
    likelier = sure.argmax(axis=1)
    suspect = np.flatnonzero((sure.max(axis=1) >= 0) & (likelier != y))
    suspect = suspect[np.argsort(own[suspect], kind="stable")]
    return suspect, likelier[suspect]
