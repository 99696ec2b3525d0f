"""The classes' means and the covariance within classes, from a few passes over the rows.

The covariance is shrunk towards a multiple of the identity (Friedman 1989, Regularized Discriminant Analysis), as there
are seldom rows enough to know it well.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray

from models.columns.workspace import StoredRows, put_aside
from models.errors import SettingsError
from models.together import are_several, before, count, total_of

_FARTHEST = torch.finfo(torch.float16).max

LEAST_WITHIN = 0.01
"""Classes are held to vary by this share of how all rows vary at least, also where a class has rows all alike."""


@dataclass(frozen=True, kw_only=True)
class Frame:
    """How rows are counted: from `origin` (d,), their mean, along `axes` (d, r), column by column where that is None.

    Axes are orthonormal. Few rows span a small space, in which all lies that they teach, and work there takes no time.
    """

    origin: torch.Tensor
    axes: torch.Tensor | None = None

    @classmethod
    def spanned(cls, rows: StoredRows, device: torch.device) -> Self:
        """With axes that span these rows, by QR decomposition, where they are half as many as columns or fewer."""
        total = torch.zeros(rows.dim, dtype=torch.float64)
        for _, batch in rows.batches():
            total += batch.double().sum(dim=0)  # a list of small sums would lie between large holes in memory
        total_of([total])
        origin = (total / count(len(rows))).float().to(device)
        if are_several() or 2 * len(rows) > rows.dim:
            return cls(origin=origin)
        return cls(origin=origin, axes=torch.linalg.qr((rows.read().to(device).float() - origin).T)[0])

    def of(self, x: torch.Tensor) -> torch.Tensor:
        """Rows (n, d) of any float type in this frame, (n, r) float32 on its device."""
        centred = x.to(self.origin.device).float() - self.origin
        return centred if self.axes is None else centred @ self.axes

    def raw(self, weights: torch.Tensor) -> torch.Tensor:
        """Weights (c, d) for features as they are, of those (c, r) for rows in this frame."""
        return weights if self.axes is None else weights @ self.axes.T


@dataclass(frozen=True, kw_only=True)
class Moments:
    """`counts` (k,) and `sums` (k, r) of each class's rows, and all rows' `products` (r, r), float32.

    Rows are counted in `frame` and from `zero` (k, r), about the means of their classes, so that the products do not
    swallow the differences.
    """

    frame: Frame
    zero: torch.Tensor
    counts: torch.Tensor
    sums: torch.Tensor
    products: torch.Tensor

    @classmethod
    def together(cls, parts: Sequence[Moments]) -> Moments:
        """The moments of the rows of all parts."""
        return replace(
            parts[0],
            counts=_sum([part.counts for part in parts]),
            sums=_sum([part.sums for part in parts]),
            products=_sum([part.products for part in parts]),
        )

    def add(self, x: torch.Tensor, labels: torch.Tensor) -> None:
        """Count more rows in, (n, d) of any float type, and their labels (n,) int64, in place."""
        labels = labels.to(self.zero.device)
        x = self.frame.of(x) - self.zero[labels]
        members = torch.nn.functional.one_hot(labels, len(self.counts)).float()
        self.counts.add_(members.sum(dim=0))
        self.sums.add_(members.T @ x)
        self.products.addmm_(x.T, x)

    def without(self, others: Moments) -> Moments:
        """The moments of the rows that are not among `others`."""
        return replace(
            self,
            counts=self.counts - others.counts,
            sums=self.sums - others.sums,
            products=self.products - others.products,
        )

    @property
    def means(self) -> torch.Tensor:
        """(k, r): the mean of each class; `zero` for a class without rows."""
        return self.zero + self.sums / self.counts.clamp(min=1)[:, None]

    @property
    def centre(self) -> torch.Tensor:
        """(r,): the mean of all rows."""
        return self.counts @ self.means / self.counts.sum()

    def root_within(self, shrinkage: float) -> torch.Tensor:
        """(r, r): Cholesky's lower root of the shrunk covariance within classes.

        `shrinkage` is the identity's share, above 0, at most 1. Raises SettingsError where it is too little for so few
        rows.
        """
        rows = self.counts.sum()
        within = (self.products - self.sums.T @ (self.means - self.zero)) / rows
        level = self._level(within)
        within.mul_(1 - shrinkage).diagonal().add_(shrinkage * level)
        root, failed = torch.linalg.cholesky_ex(within)
        if failed:
            root, failed = torch.linalg.cholesky_ex(within.double())
        if failed:
            raise SettingsError(
                f"a shrinkage of {shrinkage:g} is too little for {int(rows):,} training rows: give a larger one"
            )
        lower: torch.Tensor = root.float()
        return lower

    def _level(self, within: torch.Tensor) -> torch.Tensor:
        """What the identity is multiplied by: the mean variance of a column within classes."""
        between = self.counts @ (self.means - self.centre).square().sum(dim=1) / self.counts.sum()
        spread = within.trace()
        level = torch.maximum(spread, LEAST_WITHIN * (spread + between)) / len(self.frame.origin)
        return torch.where(level > 0, level, 1.0)

    def whitening(self, shrinkage: float) -> Whitening:
        """The coordinates in which the shrunk covariance within classes is the identity; raises as `root_within`."""
        root = self.root_within(shrinkage)
        identity = torch.eye(len(root), device=root.device)
        inverse = self.frame.raw(torch.linalg.solve_triangular(root, identity, upper=False))
        mean = self.frame.origin + self.frame.raw(self.centre)
        return Whitening(mean=mean, inverse=inverse.contiguous())  # products are so much faster


@dataclass(frozen=True, kw_only=True)
class Whitening:
    """The coordinates u = inverse (x − mean), in which the rows of a class vary alike in every direction.

    `mean` (d,) of all rows, `inverse` (r, d) of the covariance's root, float32.
    """

    mean: torch.Tensor
    inverse: torch.Tensor

    def of(self, rows: StoredRows, files: ExitStack) -> StoredRows:
        """All rows in these coordinates, put aside until `files` are closed; what lies beyond float16 at its ends."""
        file = put_aside((self._whitened(x).cpu().numpy() for _, x in rows.batches()), files)
        return StoredRows(file, rows.labels, len(self.inverse))

    def _whitened(self, x: torch.Tensor) -> torch.Tensor:
        u = (x.to(self.mean.device).float() - self.mean) @ self.inverse.T
        return u.clamp(-_FARTHEST, _FARTHEST).half()

    def raw(self, weights: torch.Tensor) -> torch.Tensor:
        """Weights (k, d) for features as they are, of those (k, r) for u."""
        return weights @ self.inverse

    def slope(self, raw: torch.Tensor) -> torch.Tensor:
        """The slope (k, r) in the weights for u, of that (k, d) in the weights for features as they are."""
        return raw @ self.inverse.T


def moments_of_folds(rows: StoredRows, classes: int, folds: int, frame: Frame) -> list[Moments]:
    """The moments of each of `folds` folds of the rows (see `fold_of`), wherever they are; reads them twice."""
    zero = frame.of(_means(rows, classes))
    found, earlier = [_no_rows(frame, zero) for _ in range(folds)], before(len(rows))
    for part, batch in rows.batches():
        labels = torch.from_numpy(rows.labels[part]).long()
        for fold, moments in enumerate(found):
            mine = torch.from_numpy(np.flatnonzero(fold_of(part, folds, earlier) == fold))
            moments.add(batch[mine], labels[mine])
    for moments in found:
        total_of([moments.counts, moments.sums, moments.products])
    return found


def fold_of(rows: slice, folds: int, earlier: int) -> NDArray[np.intp]:
    """The fold, 0 to `folds` − 1, of each of `rows`, (n,), before which there are as many `earlier`, elsewhere."""
    return (earlier + np.arange(rows.start, rows.stop)) % folds


def _no_rows(frame: Frame, zero: torch.Tensor) -> Moments:
    return Moments(
        frame=frame,
        zero=zero,
        counts=zero.new_zeros(len(zero)),
        sums=torch.zeros_like(zero),
        products=zero.new_zeros(zero.shape[1], zero.shape[1]),
    )


def _means(rows: StoredRows, classes: int) -> torch.Tensor:
    """(k, d) float64: the mean of each class, exact where its rows are alike."""
    labels = torch.from_numpy(rows.labels).long()
    sums = torch.zeros(classes, rows.dim, dtype=torch.float64)
    for part, batch in rows.batches():
        sums.index_add_(0, labels[part], batch.double())
    counts = labels.bincount(minlength=classes)
    total_of([sums, counts])
    return sums / counts.clamp(min=1)[:, None]


def _sum(parts: Sequence[torch.Tensor]) -> torch.Tensor:
    """The sum, one part at a time: the parts are large."""
    total = parts[0].clone()
    for part in parts[1:]:
        total += part
    return total
