"""Copies planted in an image set, changed as near-doubles are, and what is found of them."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from benchmarks.config import BenchInspectConfig
from features.frozen_trunk import features_of
from features.looks import thumbnail
from features.near.changes import CHANGES, Pixels, changed, sampled
from features.near.clusters import clusters
from features.near.pairs import Images, near_doubles
from features.sources.decode import decode
from features.sources.source import Source
from features.trunk.trunk import Trunk
from pipeline.console import progress

TOGETHER = 256
"""Images that are held decoded at once."""

BURSTS, COPIES = 100, 10
"""Photographs, and near-copies that each becomes."""


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A hundred or two changed copies of one kind among a set's images.

    `reported` counts pairs beyond the `clean` ones that the set has without copies, `right` those of them that join a
    copy to its original or to what was a pair of this in the clean set, `found` the copies joined to their original.
    """

    dataset: str
    trunk: str
    kind: str
    images: int
    planted: int
    found: int
    reported: int
    right: int
    clean: int
    seconds: float

    @property
    def recall(self) -> float:
        """The share of copies found."""
        return self.found / self.planted

    @property
    def precision(self) -> float:
        """The share of pairs, beyond the clean set's, that are right."""
        return self.right / max(1, self.reported)


@dataclass(frozen=True, kw_only=True)
class Bursts:
    """Images of which each became several: clusters that they form, those that are one burst whole, and purity."""

    dataset: str
    trunk: str
    bursts: int
    clusters: int
    whole: int
    purity: float


@dataclass(frozen=True, kw_only=True)
class Planted:
    """A set through one trunk: its images, and copies of some of them, by kind and in bursts."""

    dataset: str
    trunk: str
    clean: Images
    originals: NDArray[np.int64]
    calibrating: Images
    copies: Mapping[str, Images]
    photographs: NDArray[np.int64]
    burst: Images

    def pairs(self, more: Sequence[Images]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The pairs of the set and what is planted in it."""
        parts = [self.clean, *more]
        images = Images(
            features=np.concatenate([part.features for part in parts]),
            thumbnails=np.concatenate([part.thumbnails for part in parts]),
        )
        found = near_doubles(images, self.originals, self.calibrating)
        return found.first, found.second

    def kinds(self) -> Iterator[Kind]:
        """What is found of each kind, planted alone."""
        n = len(self.clean.features)
        clean = _as_set(*self.pairs([]))
        for kind, copies in self.copies.items():
            start = time.perf_counter()
            beyond = _as_set(*self.pairs([copies])) - clean
            seconds = time.perf_counter() - start
            original = {n + number: int(row) for number, row in enumerate(self.photographs)}
            joined = {(first, original[second]) for first, second in beyond if first < n <= second}
            doubles = {(int(row), int(row)) for row in self.photographs}
            yield Kind(
                dataset=self.dataset,
                trunk=self.trunk,
                kind=kind,
                images=n + len(original),
                planted=len(original),
                found=len(joined & doubles),
                reported=len(beyond),
                right=len(joined & (doubles | clean | {(b, a) for a, b in clean})),
                clean=len(clean),
                seconds=seconds,
            )

    def bursts(self) -> Bursts:
        """What becomes of bursts, each copied image with its copies."""
        n = len(self.clean.features)
        first, second = self.pairs([self.burst])
        count = len(self.burst.features) // COPIES
        labels = clusters(first, second, n + len(self.burst.features))
        burst = np.full(len(labels), -1)
        burst[self.photographs[:count]] = np.arange(count)
        burst[n:] = np.repeat(np.arange(count), COPIES)
        return judged(self.dataset, self.trunk, labels, burst)


def judged(dataset: str, trunk: str, labels: NDArray[np.int64], burst: NDArray[np.int64]) -> Bursts:
    """What clusters (n,) make of bursts (n,), -1 of images that are of none."""
    members = [labels[burst == number] for number in range(burst.max() + 1)]
    of_bursts = np.unique(np.concatenate(members))
    contents = {label: burst[labels == label] for label in of_bursts}
    large = {label: held for label, held in contents.items() if len(held) > 1}
    right = sum(np.unique(held, return_counts=True)[1].max() for held in large.values())
    whole = [len(set(each)) == 1 and len(set(contents[each[0]])) == 1 for each in members]
    return Bursts(
        dataset=dataset,
        trunk=trunk,
        bursts=len(members),
        clusters=len(large),
        whole=sum(whole),
        purity=float(right / max(1, sum(map(len, large.values())))),
    )


def plant(source: Source, trunks: Mapping[str, Trunk], config: BenchInspectConfig) -> dict[str, Planted]:
    """A set with what is planted in it, by trunk."""
    rows = source.items.index.to_numpy()
    random = np.random.default_rng([config.run.seed, 1])
    tested = np.flatnonzero(source.items["split"] == "test")
    photographs = random.permutation(tested)[: config.planted]
    originals = sampled(len(rows), config.run.seed)
    calibrating = np.random.default_rng([config.run.seed, 2])

    def read(places: Iterable[int]) -> Iterator[Pixels]:
        for place in places:
            pixels = decode(source.read(int(rows[place])))
            yield np.broadcast_to(pixels, (*pixels.shape[:2], 3))

    def copies(kind: str) -> Iterator[Pixels]:
        for pixels in read(photographs):
            yield np.array(CHANGES[kind](Image.fromarray(pixels), random))

    def near_copies() -> Iterator[Pixels]:
        for pixels in read(photographs[:BURSTS]):
            for kind in random.choice(list(CHANGES), COPIES):
                yield np.array(CHANGES[kind](Image.fromarray(pixels), random))

    selves = (self for pixels in read(originals) for self in changed(pixels, calibrating))
    clean = _looks(source.name, len(rows), read(range(len(rows))), trunks)
    calibrated = _looks(source.name, len(originals) * len(CHANGES), selves, trunks)
    by_kind = {kind: _looks(source.name, len(photographs), copies(kind), trunks) for kind in CHANGES}
    burst = _looks(source.name, min(BURSTS, len(photographs)) * COPIES, near_copies(), trunks)
    return {
        name: Planted(
            dataset=source.name,
            trunk=name,
            clean=clean[name],
            originals=originals,
            calibrating=calibrated[name],
            copies={kind: part[name] for kind, part in by_kind.items()},
            photographs=photographs,
            burst=burst[name],
        )
        for name in trunks
    }


def _looks(what: str, total: int, images: Iterable[Pixels], trunks: Mapping[str, Trunk]) -> dict[str, Images]:
    """Features and thumbnails of images, by trunk, a few of them decoded at once."""
    thumbnails: list[NDArray[np.uint8]] = []
    features: dict[str, list[NDArray[np.float16]]] = {name: [] for name in trunks}
    with progress(f"features of {what}", total) as advance:
        stream = iter(images)
        while part := list(islice(stream, TOGETHER)):
            thumbnails += [thumbnail(torch.from_numpy(each.copy()).permute(2, 0, 1)) for each in part]
            for name, trunk in trunks.items():
                features[name].append(features_of(part, [trunk]).astype(np.float16))
            advance(len(part), "")
    small = np.stack(thumbnails)
    return {name: Images(features=np.concatenate(parts), thumbnails=small) for name, parts in features.items()}


def _as_set(first: NDArray[np.int64], second: NDArray[np.int64]) -> set[tuple[int, int]]:
    return set(zip(first.tolist(), second.tolist(), strict=True))
