"""Pairs of images that are one picture twice, from features and thumbnails, with a threshold of their set's own.

Features and thumbnails, also in the mirror, name candidates. Each pair then has two numbers: what its thumbnails differ
by once aligned, and what its features do, both relative to how far the two images' 32nd neighbours are, so that a pair
counts by what is usual around it (local scaling, Zelnik-Manor & Perona, 2004; the ratio test of Lowe, 2004). Logistic
regression tells the set's own images, changed, from candidates; the threshold is where it finds nearly all of these.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from features.near.align import residuals
from features.near.changes import CHANGES
from features.near.search import Directions, OnRows, Searcher, distances_between, others, unit

USUAL = 32
"""The neighbour whose distance is what is usual around an image: beyond the size of most bursts."""

CANDIDATES = {"features": 16, "thumbnails": 4, "mirrored": 4}
"""How many neighbours each search names."""

MISSED = 0.025
"""The share of changed images, of the kind that is hardest, that the threshold lets go."""

SPREADS = 4.0
"""How many standard deviations above the usual best candidate a pair must be, whatever is missed by that."""

PAIRS_AT_ONCE = 2**15

ROUNDS = 3
"""Fits, each without the candidates that the last one found to be doubles."""


@dataclass(frozen=True, kw_only=True)
class Images:
    """n images: features (n, d) float16 or float32, thumbnails (n, s, s) uint8."""

    features: NDArray[Any]
    thumbnails: NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True)
class NearDoubles:
    """Pairs, first < second, each once, the surest first; `score` is the log-odds above the threshold, all above 0.

    `found` is the share of the changed images found, by the way they were changed.
    """

    first: NDArray[np.int64]
    second: NDArray[np.int64]
    score: NDArray[np.float32]
    found: Mapping[str, float]


def near_doubles(
    images: Images, originals: NDArray[np.int64], changed: Images, on_rows: OnRows = lambda rows: None
) -> NearDoubles:
    """The pairs in a set of n images.

    `changed` are (m * ways) images that the rows `originals`, (m,), became, image by image in the order of CHANGES.
    `on_rows` hears of 4 n rows in all. Fewer than three images have no neighbours to be compared with: no pairs.
    """
    if len(images.features) < 3:
        nothing = np.empty(0, np.int64)
        return NearDoubles(first=nothing, second=nothing, score=np.empty(0, np.float32), found={})
    looks = _Looks(images, on_rows)
    first, second = looks.candidates()
    natural = looks.compare(first, second)
    on_rows(len(images.features))
    positive = looks.compare_changed(np.repeat(originals, len(CHANGES)), changed)
    model, threshold = _calibrated(positive.reshape(-1, len(CHANGES), 2), natural)
    score = _scores(model, natural) - threshold
    found = (_scores(model, positive) > threshold).reshape(-1, len(CHANGES)).mean(axis=0)
    order = np.argsort(-score, kind="stable")
    order = order[score[order] > 0]
    return NearDoubles(
        first=first[order],
        second=second[order],
        score=score[order].astype(np.float32),
        found=dict(zip(CHANGES, map(float, found), strict=True)),
    )


class _Looks:
    """A set's images as directions, searched once: `usual` has for each of features and thumbnails what is usual."""

    def __init__(self, images: Images, on_rows: OnRows) -> None:
        self.directions = Directions(images.features)
        self.features = Searcher(self.directions.of(images.features))
        self.pictures = images.thumbnails
        self.thumbnails = Searcher(_flat(images.thumbnails))
        near = others(self.features, self.features.rows, USUAL, on_rows)
        alike = others(self.thumbnails, self.thumbnails.rows, USUAL, on_rows)
        mirrored = others(self.thumbnails, _flat(images.thumbnails[:, :, ::-1]), CANDIDATES["mirrored"], on_rows)
        self.usual = (near[1][:, -1], alike[1][:, -1])
        self.lists = dict(zip(CANDIDATES, (near[0], alike[0], mirrored[0]), strict=True))

    def candidates(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Pairs to look at, first < second, each once."""
        n = len(self.pictures)
        named = np.hstack([self.lists[name][:, :most] for name, most in CANDIDATES.items()])
        one, other = np.repeat(np.arange(n), named.shape[1]), named.ravel()
        pairs = np.unique(np.minimum(one, other) * n + np.maximum(one, other))
        return pairs // n, pairs % n

    def compare(self, first: NDArray[np.int64], second: NDArray[np.int64]) -> NDArray[np.float32]:
        """What pairs of the set differ by, (m, 2), a few of them in memory at a time."""
        parts = [slice(start, start + PAIRS_AT_ONCE) for start in range(0, len(first), PAIRS_AT_ONCE)]
        return np.concatenate([self._compare(first[part], second[part]) for part in parts])

    def _compare(self, first: NDArray[np.int64], second: NDArray[np.int64]) -> NDArray[np.float32]:
        gaps = distances_between(self.features.rows, first, self.features.rows[second])
        return self._relative(gaps, self.pictures[second], first, (self.usual[0][second], self.usual[1][second]))

    def compare_changed(self, originals: NDArray[np.int64], changed: Images) -> NDArray[np.float32]:
        """What changed images differ by from their originals, (m, 2)."""
        rows, thumbnails = self.directions.of(changed.features), _flat(changed.thumbnails)
        usual = (_furthest(self.features, rows), _furthest(self.thumbnails, thumbnails))
        gaps = distances_between(self.features.rows, originals, rows)
        return self._relative(gaps, changed.thumbnails, originals, usual)

    def _relative(
        self,
        gaps: NDArray[np.float32],
        pictures: NDArray[np.uint8],
        first: NDArray[np.int64],
        usual: tuple[NDArray[np.float32], NDArray[np.float32]],
    ) -> NDArray[np.float32]:
        aligned = _aligned(self.pictures[first], pictures)
        scales = [_log(own[first]) / 2 + _log(others) / 2 for own, others in zip(self.usual, usual, strict=True)]
        return np.stack([_log(gaps) - scales[0], _log(aligned) - scales[1]], axis=1)


def _furthest(searcher: Searcher, rows: NDArray[np.float16]) -> NDArray[np.float32]:
    distances: NDArray[np.float32] = searcher.nearest(rows, USUAL)[1][:, -1]
    return distances


def _log(distances: NDArray[np.float32]) -> NDArray[np.float32]:
    logs: NDArray[np.float32] = np.log(distances + np.float32(1e-4))  # rounding is below that
    return logs


def _flat(thumbnails: NDArray[np.uint8]) -> NDArray[np.float16]:
    """Pictures as rows of length 1, brightness and contrast set aside; blank ones are zero."""
    rows = torch.from_numpy(thumbnails.reshape(len(thumbnails), -1).astype(np.float32))
    return unit(rows - rows.mean(dim=1, keepdim=True)).half().numpy()


def _aligned(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> NDArray[np.float32]:
    """What pictures differ by, as they are or in the mirror."""
    one, other = torch.from_numpy(first), torch.from_numpy(second)
    return torch.minimum(residuals(one, other), residuals(one.flip(2), other)).numpy()


def _calibrated(positive: NDArray[np.float32], natural: NDArray[np.float32]) -> tuple[LogisticRegression, float]:
    """What tells (m, ways, 2) changed images from (n, 2) candidates, and from which log-odds on."""
    flat, kept = positive.reshape(-1, 2), np.ones(len(natural), bool)
    for _ in range(ROUNDS):
        x = np.concatenate([flat, natural[kept]])
        model = LogisticRegression(class_weight="balanced").fit(x, np.arange(len(x)) < len(flat))
        usual = _scores(model, natural)
        worst_kind = np.quantile(_scores(model, flat).reshape(positive.shape[:2]), MISSED, axis=0).min()
        kept = usual < worst_kind  # else the doubles of a set of bursts would count as usual
        if not kept.any():
            break
    rest = usual[kept] if kept.any() else usual
    return model, max(float(worst_kind), float(rest.mean() + SPREADS * rest.std()))


def _scores(model: LogisticRegression, x: NDArray[np.float32]) -> NDArray[np.float64]:
    scores: NDArray[np.float64] = model.decision_function(x)
    return scores
