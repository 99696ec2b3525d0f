"""Nearest neighbours: the cheap floor, what a table gives away to a head that learns next to nothing.

Principal components of the columns that tell classes apart, in which neighbours are near by angle; they vote, the
nearer the more. How many may vote is chosen on rows that they have not seen.
"""

from __future__ import annotations

from functools import cached_property
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import Pipeline

from models.calibration import log_loss
from models.columns.workspace import Chosen, Lessons, StoredRows
from models.fitted import Arrays, array_of, as_fitted, below
from models.heads.head import ColumnsHead, OnStep, Probabilities, Step, chosen_columns
from models.heads.settings import KnnSettings

PCA_ROWS = 20_000
"""Training rows that the components are fitted on at most; more hardly move them."""

OF_EACH = ("explained_variance", "explained_variance_ratio", "singular_values")
"""What is learnt of each component, a number."""

PCA_LEARNT = ("components", "mean", *OF_EACH, "noise_variance")
"""What they learn, as float32."""


class KnnHead(ColumnsHead):
    """Nearest neighbours on principal components; saved as a scikit-learn Pipeline."""

    on_gpu: ClassVar[bool] = False
    settings: KnnSettings

    def steps(self) -> int:
        """Numbers of neighbours to try."""
        return len(self.settings.neighbours)

    def _fit(self, lessons: Lessons, classes: int, on_step: OnStep) -> tuple[Arrays, Probabilities]:
        learners = [self._learner(chosen) for chosen in lessons.tries]
        said, losses = {}, {}
        for neighbours in sorted({min(neighbours, *map(len, learners)) for neighbours in self.settings.neighbours}):
            shares = np.concatenate([learner.say(neighbours, classes) for learner in learners])
            said[neighbours], losses[neighbours] = shares, log_loss(shares, lessons.labels)
            on_step(Step(f"neighbours {neighbours}, validation log-loss {losses[neighbours]:.4f}", losses[neighbours]))
        best = min(losses, key=lambda neighbours: losses[neighbours])
        last = self._learner(lessons.whole) if lessons.whole else learners[0]
        learnt = {"places": lessons.last.places, "neighbours": np.array(best), "rows": last.rows, "labels": last.labels}
        pca = last.pca
        parts = {name: np.nan_to_num(getattr(pca, f"{name}_")) for name in PCA_LEARNT}  # NaN: shares of no variance
        learnt |= {f"pca.{name}": np.asarray(part, np.float32) for name, part in parts.items()}
        self.learned_ = {"neighbours": best, "validation_log_loss": losses[best]}
        return {**learnt, "pca.n_samples": np.array(pca.n_samples_)}, said[best]

    def _learner(self, chosen: Chosen) -> _Learner:
        return _Learner(self._components(chosen.train), chosen, max(self.settings.neighbours))

    def build(self, arrays: Arrays) -> Pipeline:
        pca = self._pca(below("pca", arrays))
        rows = array_of(arrays, "rows", np.float32, None, len(pca.components_))
        labels = array_of(arrays, "labels", np.int32, len(rows))
        neighbours = int(array_of(arrays, "neighbours", np.int64))
        if not 0 < neighbours <= len(rows):
            raise ValueError(f"{neighbours} neighbours of {len(rows)} rows")
        select, knn = chosen_columns(arrays, pca.n_features_in_), _neighbours(rows, labels, neighbours)
        return Pipeline([("columns", select), ("pca", pca), ("knn", knn)])

    def _pca(self, arrays: Arrays) -> PCA:
        """The components as `_components` has fitted them."""
        components = array_of(arrays, "components", np.float32, None, None)
        return as_fitted(
            PCA(len(components), svd_solver="randomized", random_state=self.seed),
            components_=components,
            mean_=array_of(arrays, "mean", np.float32, components.shape[1]),
            **{f"{name}_": array_of(arrays, name, np.float32, len(components)) for name in OF_EACH},
            noise_variance_=float(array_of(arrays, "noise_variance", np.float32)),
            n_samples_=int(array_of(arrays, "n_samples", np.int64)),
            n_components_=len(components),
            n_features_in_=components.shape[1],
            _fit_svd_solver="randomized",
        )

    def _components(self, train: StoredRows) -> PCA:
        """Fit the components on PCA_ROWS training rows, drawn by the seed."""
        chosen = np.zeros(len(train), bool)
        chosen[np.random.default_rng(self.seed).permutation(len(train))[:PCA_ROWS]] = True
        x = torch.cat([batch[torch.from_numpy(chosen[part])] for part, batch in train.batches()]).float().numpy()
        components = min(self.settings.components, *x.shape)
        with np.errstate(invalid="ignore"):  # rows that are all the same have no variance to share out
            return PCA(components, svd_solver="randomized", random_state=self.seed).fit(x)


class _Learner:
    """The training rows of `chosen` in their principal components, and those that are nearest to its validation rows.

    They are looked up when they are first asked for, `most` of them.
    """

    def __init__(self, pca: PCA, chosen: Chosen, most: int) -> None:
        self.pca, self.labels = pca, chosen.train.labels
        self.rows = _reduced(pca, chosen.train)
        self._unseen, self._most = chosen.validation, min(most, len(self.rows))

    def __len__(self) -> int:
        return len(self.rows)

    @cached_property
    def _nearest(self) -> tuple[NDArray[np.float32], NDArray[np.intp]]:
        model = _neighbours(self.rows, np.zeros_like(self.labels), 1)  # of more classes than rows it would warn
        distances, nearest = model.kneighbors(_reduced(self.pca, self._unseen), n_neighbors=self._most)
        return np.asarray(distances, np.float32), np.asarray(nearest, np.intp)

    def say(self, neighbours: int, classes: int) -> Probabilities:
        """What so many make of the validation rows, (m, k)."""
        distances, nearest = self._nearest
        votes = _votes(distances[:, :neighbours])
        shares = np.zeros((len(votes), classes))
        votes /= votes.sum(axis=1, keepdims=True)
        np.add.at(shares, (np.arange(len(votes))[:, None], self.labels[nearest[:, :neighbours]]), votes)
        return shares.astype(np.float32)


def _neighbours(rows: NDArray[np.float32], labels: NDArray[np.int32], neighbours: int) -> KNeighborsClassifier:
    """Fitted, so that it holds the rows; for another metric it would start OpenMP threads, which hang after a fork."""
    model = KNeighborsClassifier(neighbours, weights="distance", algorithm="brute", metric="cosine")
    return model.fit(rows, labels)


def _votes(distances: NDArray[np.float32]) -> NDArray[np.float64]:
    """Each neighbour's vote, as scikit-learn's weights="distance" has it: the same image alone decides."""
    same = distances == 0
    with np.errstate(divide="ignore"):
        votes = 1 / distances.astype(np.float64)
    votes[same.any(axis=1)] = same[same.any(axis=1)]
    return votes


def _reduced(reduce: PCA, rows: StoredRows) -> NDArray[np.float32]:
    """All rows through `reduce`, (n, c) float32."""
    reduced = np.empty((len(rows), reduce.n_components_), np.float32)
    for part, batch in rows.batches():
        reduced[part] = reduce.transform(batch.float().numpy())
    return reduced
