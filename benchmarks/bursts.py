"""Photographs of each of which there are several near-copies, and what groups make of accuracy."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from sklearn.metrics import balanced_accuracy_score

from benchmarks.planted import BURSTS, COPIES
from features.near.changes import CHANGES
from features.sources.decode import decode
from features.sources.options import NEAR, SourceOptions
from features.sources.source import SPLITS, Source
from features.table.folded import FoldedTable
from features.table.joined import JoinedTable
from models.heads.head import Classifier
from models.heads.registry import HeadSettings
from models.heads.settings import LinearSettings
from pipeline.config import CompareConfig, LearningConfig
from pipeline.stages.compare import prepare
from pipeline.stages.inspect import JUDGE

FOLDS = 10
"""Of which nine teach whoever is tested: hardly fewer photographs than the one that is asked for the truth had."""

PLAIN = HeadSettings(linear=LinearSettings(shrinkages=(0.3,), penalties=(0.1,)))
"""One fit a fold, where else ten penalties are tried: what is measured is groups, many times."""


@dataclass(frozen=True, kw_only=True)
class OfBursts:
    """Accuracy (shares) on a draw of bursts, out of folds dealt image by image and in groups, and the `truth`.

    That is what the same classifier, which has learnt from all of them, makes of other photographs of the set, each
    class counted alike, as there are as many bursts of each.
    """

    dataset: str
    trunk: str
    draw: int
    alone: float
    grouped: float
    truth: float


def measure_bursts(
    source: Source, table: JoinedTable, trunk: str, learning: LearningConfig, draws: int
) -> Iterator[OfBursts]:
    """Bursts of photographs of `source`, whose features are `table`, drawn several times."""
    held = FoldedTable.of(table, [split for split in SPLITS if split in table.rows])
    for draw in range(draws):
        with TemporaryDirectory() as folder:
            random = np.random.default_rng([learning.features.run.seed, draw])
            mixed = source.items.iloc[random.permutation(len(source.items))]
            rows = mixed.groupby("label").head(BURSTS // len(source.classes)).index.to_numpy()
            _write(Path(folder, "images"), source, rows, random)
            classes, alone, _ = _tested(folder, "", learning)
            _, grouped, head = _tested(folder, NEAR, learning)
            others = ~np.isin(held.keys, source.items.loc[rows, "key"].tolist())
            others &= np.isin(held.all_labels, [source.classes.index(name) for name in classes])
            unseen = held.with_splits(np.where(others, "test", "")).read("test")
            said = np.array([source.classes.index(classes[k]) for k in head.predict_proba(unseen.x).argmax(axis=1)])
            truth = float(balanced_accuracy_score(unseen.y, said))
        yield OfBursts(dataset=source.name, trunk=trunk, draw=draw, alone=alone, grouped=grouped, truth=truth)


def _tested(folder: str, group: str, learning: LearningConfig) -> tuple[tuple[str, ...], float, Classifier]:
    """The classes of the bursts in a folder, the accuracy out of folds, and who has learnt from all of them."""
    run = replace(learning.features.run, images=SourceOptions(group=group), out=Path(folder, "out"))
    features = replace(learning.features, dataset=str(Path(folder, "images")), run=run)
    asked = replace(learning, features=features)
    config = CompareConfig(learning=asked, heads=JUDGE, settings=PLAIN, folds=FOLDS, curve=False, inspect=False)
    contest = prepare(config)
    said = contest.out_of_fold[JUDGE]
    right = said.probabilities.argmax(axis=1) == said.labels
    return contest.table.classes, float(right.mean()), contest.trained[JUDGE].head


def _write(folder: Path, source: Source, rows: NDArray[np.int64], random: np.random.Generator) -> None:
    """COPIES of each photograph, changed at random, under names that tell nothing."""
    for row in rows:
        pixels = decode(source.read(int(row)))
        image = Image.fromarray(np.broadcast_to(pixels, (*pixels.shape[:2], 3)).copy())
        place = folder / source.classes[source.items.loc[row, "label"]]
        place.mkdir(parents=True, exist_ok=True)
        for kind in random.choice(list(CHANGES), COPIES):
            CHANGES[kind](image, random).save(place / f"{random.bytes(8).hex()}.png")
