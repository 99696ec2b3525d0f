"""Pairs of images that are one picture twice, from features and thumbnails, with a threshold of their set's own.

Features and thumbnails, also in the mirror, name candidates. Each pair then has two numbers: what its thumbnails differ
by once aligned, and what its features do, both relative to how far the two images' 32nd neighbours are, so that a pair
counts by what is usual around it (local scaling, Zelnik-Manor & Perona, 2004; the ratio test of Lowe, 2004). Logistic
regression tells the set's own images, changed, from candidates; the threshold is where it finds nearly all of these,
one for pairs that are alike as they are and one for those in the mirror.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import median_abs_deviation
from sklearn.linear_model import LogisticRegression

from features.near.align import residuals
from features.near.changes import CHANGES
from features.near.search import Directions, OnRows, Searcher, distances_between, others, unit

USUAL = 32
"""The neighbour whose distance is what is usual around an image: beyond the size of most bursts."""

CANDIDATES = {"features": 16, "thumbnails": 4, "mirrored": 4}
"""How many neighbours each search names."""

LAST = 4
"""How many of an image's neighbours, the last that are named, say what is usual."""

MISSED = 0.025
"""The share of changed images, of the kind that is hardest, that the threshold lets go."""

LENIENT = 0.25
"""How much of the room between what is usual and what the changed images have is given to pairs of the set."""

SPREADS = 4.5
"""How many robust standard deviations above the usual candidate a pair must be, whatever is missed by that."""

PAIRS_AT_ONCE = 2**13

LEARNT_FROM = 2**18
"""About how many candidates, evenly spaced, the regression sees: it has three numbers to learn."""

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
    looks = _Looks(images, changed, on_rows)
    pairs = looks.candidates()
    natural = looks.compare(pairs)
    on_rows(len(images.features))
    positive = looks.compare_changed(np.repeat(originals, len(CHANGES)))
    step = -(-len(pairs) // LEARNT_FROM)
    judge = _Judge(positive, natural.at(slice(None, None, step)), natural.at(np.searchsorted(pairs, looks.usual())))
    score = judge.score(natural)
    found = (judge.score(positive) > 0).reshape(-1, len(CHANGES)).mean(axis=0)
    above = np.flatnonzero(score > 0)
    order = above[np.argsort(-score[above], kind="stable")]
    first, second = np.divmod(pairs[order], len(images.features))
    return NearDoubles(
        first=first,
        second=second,
        score=score[order].astype(np.float32),
        found=dict(zip(CHANGES, map(float, found), strict=True)),
    )


@dataclass(frozen=True, kw_only=True)
class _Near:
    """Candidates (n, m) of a search, and how far the USUAL-th neighbour is of each image and of each changed one."""

    named: NDArray[np.int32]
    usual: NDArray[np.float32]
    usual_of_changed: NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class _Pairs:
    """What pairs `differ` by, (n, 2) by features and by thumbnails, and whether these are nearer `mirrored`, (n,)."""

    differ: NDArray[np.float32]
    mirrored: NDArray[np.bool_]

    def at(self, which: slice | NDArray[np.int64]) -> _Pairs:
        return _Pairs(differ=self.differ[which], mirrored=self.mirrored[which])


class _Looks:
    """A set's images and changed ones as directions and pictures, searched one after the other: indexes are large."""

    def __init__(self, images: Images, changed: Images, on_rows: OnRows) -> None:
        directions = Directions(images.features)
        self.rows, self.changed_rows = directions.of(images.features), directions.of(changed.features)
        self.pictures, self.changed_pictures = images.thumbnails, changed.thumbnails
        self.features = _search(Searcher(self.rows), self.rows, self.changed_rows, CANDIDATES["features"], on_rows)
        pictures, mirrored = Searcher(self.pictures, _flat), self.pictures[:, :, ::-1]
        most = CANDIDATES["thumbnails"]
        self.thumbnails = _search(pictures, self.pictures, self.changed_pictures, most, on_rows, mirrored)

    def candidates(self) -> NDArray[np.int64]:
        """Pairs to look at, in order, each once as one number: first * n + second, first < second."""
        return np.unique(self._numbered(np.hstack([self.features.named, self.thumbnails.named])))

    def usual(self) -> NDArray[np.int64]:
        """Those of each image and the last that its features name: beyond its own burst, if it is of one."""
        return self._numbered(self.features.named[:, -LAST:]).ravel()

    def _numbered(self, named: NDArray[np.int32]) -> NDArray[np.int64]:
        n = len(self.pictures)
        own = np.arange(n)[:, None]
        numbers: NDArray[np.int64] = np.minimum(own, named) * n
        numbers += np.maximum(own, named)
        return numbers

    def compare(self, pairs: NDArray[np.int64]) -> _Pairs:
        """What pairs of the set differ by, a few of them in memory at a time."""
        found = _Pairs(differ=np.empty((len(pairs), 2), np.float32), mirrored=np.empty(len(pairs), np.bool_))
        for start in range(0, len(pairs), PAIRS_AT_ONCE):
            part = slice(start, start + PAIRS_AT_ONCE)
            first, second = np.divmod(pairs[part], len(self.pictures))
            usual = (self.features.usual[second], self.thumbnails.usual[second])
            some = self._relative(first, self.rows[second], self.pictures[second], usual)
            found.differ[part], found.mirrored[part] = some.differ, some.mirrored
        return found

    def compare_changed(self, originals: NDArray[np.int64]) -> _Pairs:
        """What changed images differ by from their originals."""
        usual = (self.features.usual_of_changed, self.thumbnails.usual_of_changed)
        return self._relative(originals, self.changed_rows, self.changed_pictures, usual)

    def _relative(
        self,
        first: NDArray[np.int64],
        rows: NDArray[np.float16],
        pictures: NDArray[np.uint8],
        usual: tuple[NDArray[np.float32], NDArray[np.float32]],
    ) -> _Pairs:
        """What images differ by from `rows` and `pictures` (m,), relative to what is usual around both."""
        gaps, (aligned, mirrored) = distances_between(self.rows, first, rows), _aligned(self.pictures[first], pictures)
        own = (self.features.usual[first], self.thumbnails.usual[first])
        scales = [_log(one) / 2 + _log(other) / 2 for one, other in zip(own, usual, strict=True)]
        return _Pairs(differ=np.stack([_log(gaps) - scales[0], _log(aligned) - scales[1]], axis=1), mirrored=mirrored)


def _search(
    searcher: Searcher,
    rows: NDArray[Any],
    changed: NDArray[Any],
    most: int,
    on_rows: OnRows,
    mirrored: NDArray[Any] | None = None,
) -> _Near:
    """The `most` nearest to each of the n rows searched, and to each of these `mirrored`."""
    indices, distances = others(searcher, rows, USUAL, on_rows)
    named = [indices[:, :most].copy()]
    if mirrored is not None:
        named.append(others(searcher, mirrored, CANDIDATES["mirrored"], on_rows)[0])
    usual_of_changed = searcher.nearest(changed, USUAL)[1][:, -1]
    return _Near(named=np.hstack(named), usual=distances[:, -1].copy(), usual_of_changed=usual_of_changed)


def _log(distances: NDArray[np.float32]) -> NDArray[np.float32]:
    logs: NDArray[np.float32] = np.log(distances + np.float32(1e-4))  # rounding is below that
    return logs


def _flat(thumbnails: NDArray[np.uint8]) -> torch.Tensor:
    """Pictures as rows of length 1, brightness and contrast set aside; blank ones are zero."""
    rows = torch.from_numpy(thumbnails.reshape(len(thumbnails), -1).astype(np.float32))
    return unit(rows - rows.mean(dim=1, keepdim=True))


def _aligned(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """What pictures differ by, as they are or in the mirror, and which of the two it is, (m,) each."""
    one, other = torch.from_numpy(first), torch.from_numpy(second)
    straight, mirrored = residuals(one, other), residuals(one.flip(2), other)
    return torch.minimum(straight, mirrored).numpy(), (mirrored < straight).numpy()


class _Judge:
    """Tells (m * ways) changed images from the set's candidates, by a threshold for each way round.

    It is above nearly all pairs of what is `usual`; fewer things are alike in the mirror than look so there.
    """

    def __init__(self, changed: _Pairs, natural: _Pairs, usual: _Pairs) -> None:
        self._model, kept = LogisticRegression(class_weight="balanced"), np.ones(len(natural.differ), bool)
        for _ in range(ROUNDS):
            x = np.concatenate([changed.differ, natural.differ[kept]])
            self._model.fit(x, np.arange(len(x)) < len(changed.differ))
            kinds = np.quantile(self._log_odds(changed).reshape(-1, len(CHANGES)), MISSED, axis=0)
            kept = self._log_odds(natural) < kinds.min()  # doubles are no examples of what is usual
            if not kept.any():
                break
        in_mirror = np.array([kind == "mirrored" for kind in CHANGES])
        self._thresholds = np.array(
            [self._threshold(usual, way, kinds[in_mirror == way].min()) for way in (False, True)]
        )

    def score(self, pairs: _Pairs) -> NDArray[np.float64]:
        """Log-odds above the threshold, (n,)."""
        above: NDArray[np.float64] = self._log_odds(pairs) - self._thresholds[pairs.mirrored.astype(int)]
        return above

    def _threshold(self, usual: _Pairs, way: bool, worst_kind: float) -> float:
        alike = usual.mirrored == way
        ordinary = self._log_odds(usual)[alike if alike.any() else slice(None)]
        floor = float(np.median(ordinary) + SPREADS * median_abs_deviation(ordinary, scale="normal"))
        return floor + (1 - LENIENT) * max(float(worst_kind) - floor, 0)

    def _log_odds(self, pairs: _Pairs) -> NDArray[np.float64]:
        log_odds: NDArray[np.float64] = self._model.decision_function(pairs.differ)
        return log_odds
