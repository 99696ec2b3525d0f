"""Nearest neighbours: the cheap floor, what a table gives away to a head that learns next to nothing.

Principal components of the columns that tell classes apart, brought to length 1 so that neighbours are near by angle;
a row's neighbours vote, the nearer the more. How many may vote is chosen on validation.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import Normalizer

from features.table.joined import JoinedTable
from models.columns.workspace import Chosen, StoredRows
from models.heads.head import ColumnsHead, OnStep, Step
from models.heads.settings import KnnSettings

PCA_ROWS = 20_000
"""Training rows that the components are fitted on at most; more hardly move them."""


class KnnHead(ColumnsHead):
    """Nearest neighbours on principal components; saved as a scikit-learn Pipeline."""

    on_gpu: ClassVar[bool] = False
    settings: KnnSettings

    def steps(self, table: JoinedTable) -> int:
        """Numbers of neighbours to try."""
        return len(self.settings.neighbours)

    def _fit(self, table: JoinedTable, chosen: Chosen, on_step: OnStep) -> None:
        train, validation = chosen.train, chosen.validation
        reduce = Pipeline([("pca", self._components(train)), ("length", Normalizer())])
        model = KNeighborsClassifier(weights="distance", algorithm="brute")
        model.fit(_reduced(reduce, train), train.labels)
        most = min(max(self.settings.neighbours), len(train))
        distances, rows = model.kneighbors(_reduced(reduce, validation), n_neighbors=most)
        losses = self._losses(distances, train.labels[rows] == validation.labels[:, None], on_step)
        best = min(losses, key=lambda neighbours: losses[neighbours])
        model.set_params(n_neighbors=best)
        self.model_ = Pipeline([("columns", chosen.select), *reduce.steps, ("knn", model)])
        self.learned_ = {"neighbours": best, "validation_log_loss": losses[best]}

    def _components(self, train: StoredRows) -> PCA:
        """Fit the components on PCA_ROWS training rows, drawn by the seed."""
        chosen = np.zeros(len(train), bool)
        chosen[np.random.default_rng(self.seed).permutation(len(train))[:PCA_ROWS]] = True
        x = torch.cat([batch[torch.from_numpy(chosen[part])] for part, batch in train.batches()]).float().numpy()
        components = min(self.settings.components, *x.shape)
        return PCA(components, svd_solver="randomized", random_state=self.seed).fit(x)

    def _losses(self, distances: NDArray[np.float32], right: NDArray[np.bool_], on_step: OnStep) -> dict[int, float]:
        """Log-loss by how many neighbours vote, of rows' (n, most) nearest, and whether these are of their class."""
        losses = {}
        for neighbours in sorted({min(neighbours, right.shape[1]) for neighbours in self.settings.neighbours}):
            votes = _votes(distances[:, :neighbours])
            shares = (votes * right[:, :neighbours]).sum(axis=1) / votes.sum(axis=1)
            losses[neighbours] = -float(np.log(np.maximum(shares, 1e-12)).mean())
            on_step(Step(f"neighbours {neighbours}, validation log-loss {losses[neighbours]:.4f}", losses[neighbours]))
        return losses


def _votes(distances: NDArray[np.float32]) -> NDArray[np.float64]:
    """Each neighbour's vote, as scikit-learn's weights="distance" has it: the same image alone decides."""
    same = distances == 0
    with np.errstate(divide="ignore"):
        votes = 1 / distances.astype(np.float64)
    votes[same.any(axis=1)] = same[same.any(axis=1)]
    return votes


def _reduced(reduce: Pipeline, rows: StoredRows) -> NDArray[np.float32]:
    """All rows through `reduce`, (n, c) float32."""
    return np.concatenate([reduce.transform(batch.float().numpy()) for _, batch in rows.batches()])
