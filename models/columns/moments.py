"""The classes' means and the covariance within classes, from one pass over the rows.

The covariance is shrunk towards a multiple of the identity (Friedman 1989, Regularized Discriminant Analysis), as there
are seldom rows enough to know it well.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from models.columns.workspace import StoredRows
from models.errors import SettingsError


@dataclass(frozen=True, kw_only=True)
class Moments:
    """`counts` (k,) and `sums` (k, d) of each class's rows, and all rows' `products` (d, d), float32.

    Rows are counted from `zero` (d,), somewhere near their mean, so that the products do not swallow the differences.
    """

    zero: torch.Tensor
    counts: torch.Tensor
    sums: torch.Tensor
    products: torch.Tensor

    @classmethod
    def together(cls, parts: Sequence[Moments]) -> Moments:
        """The moments of the rows of all parts."""
        return cls(
            zero=parts[0].zero,
            counts=_sum([part.counts for part in parts]),
            sums=_sum([part.sums for part in parts]),
            products=_sum([part.products for part in parts]),
        )

    def add(self, x: torch.Tensor, labels: torch.Tensor) -> None:
        """Count more rows in, (n, d) float32 from `zero`, and their labels (n,) int64, in place."""
        members = torch.nn.functional.one_hot(labels, len(self.counts)).float()
        self.counts.add_(members.sum(dim=0))
        self.sums.add_(members.T @ x)
        self.products.addmm_(x.T, x)

    def without(self, others: Moments) -> Moments:
        """The moments of the rows that are not among `others`."""
        return Moments(
            zero=self.zero,
            counts=self.counts - others.counts,
            sums=self.sums - others.sums,
            products=self.products - others.products,
        )

    def of_columns(self, columns: torch.Tensor) -> Moments:
        """The moments of some of the columns alone."""
        return Moments(
            zero=self.zero[columns],
            counts=self.counts,
            sums=self.sums[:, columns],
            products=self.products[columns][:, columns],
        )

    @property
    def means(self) -> torch.Tensor:
        """(k, d): the mean of each class, from `zero`; `zero` itself for a class without rows."""
        return self.sums / self.counts.clamp(min=1)[:, None]

    @property
    def centre(self) -> torch.Tensor:
        """(d,): the mean of all rows, from `zero`."""
        return self.sums.sum(dim=0) / self.counts.sum()

    def root_within(self, shrinkage: float) -> torch.Tensor:
        """(d, d): Cholesky's lower root of the shrunk covariance within classes.

        `shrinkage` is the identity's share, 0 to 1. Raises RuntimeError where it is too little for so few rows.
        """
        within = (self.products - self.sums.T @ self.means) / self.counts.sum()
        identity = within.diagonal().mean().clamp(min=1e-12)
        within.mul_(1 - shrinkage).diagonal().add_(shrinkage * identity)
        root: torch.Tensor = torch.linalg.cholesky(within)
        return root

    def whitening(self, shrinkage: float) -> Whitening:
        """The coordinates in which the shrunk covariance within classes is the identity.

        Raises SettingsError where `shrinkage` is too little for so few rows.
        """
        try:
            root = self.root_within(shrinkage)
        except RuntimeError as error:
            rows = f"{int(self.counts.sum()):,} training rows"
            raise SettingsError(f"a shrinkage of {shrinkage:g} is too little for {rows}: give a larger one") from error
        identity = torch.eye(len(root), device=root.device)
        inverse = torch.linalg.solve_triangular(root, identity, upper=False)
        return Whitening(mean=self.zero + self.centre, inverse=inverse.contiguous())  # products are so much faster


@dataclass(frozen=True, kw_only=True)
class Whitening:
    """The coordinates u = inverse (x − mean), in which the rows of a class vary alike in every direction.

    `mean` (d,) of all rows, `inverse` (d, d) of the covariance's root, float32.
    """

    mean: torch.Tensor
    inverse: torch.Tensor

    def of(self, rows: StoredRows) -> torch.Tensor:
        """All rows in these coordinates, (n, d) float16 in the host's memory."""
        whitened = torch.empty(len(rows), rows.dim, dtype=torch.float16)
        for part, x in rows.batches():
            whitened[part] = ((x.to(self.mean.device).float() - self.mean) @ self.inverse.T).half().cpu()
        return whitened

    def raw(self, weights: torch.Tensor) -> torch.Tensor:
        """Weights (k, d) for features as they are, of those for u."""
        return weights @ self.inverse

    def slope(self, raw: torch.Tensor) -> torch.Tensor:
        """The slope (k, d) in the weights for u, of that in the weights for features as they are."""
        return raw @ self.inverse.T


def moments_of_folds(rows: StoredRows, classes: int, folds: int, device: torch.device) -> list[Moments]:
    """The moments of each of `folds` folds of the rows (see `fold_of`), all from one pass."""
    zero = next(rows.batches())[1].float().mean(dim=0).to(device)
    found = [_no_rows(zero, classes) for _ in range(folds)]
    for part, batch in rows.batches():
        labels = torch.from_numpy(rows.labels[part]).long()
        for fold, moments in enumerate(found):
            mine = torch.from_numpy(np.flatnonzero(fold_of(part, folds) == fold))
            moments.add(batch[mine].to(device).float() - zero, labels[mine].to(device))
    return found


def fold_of(rows: slice, folds: int) -> NDArray[np.intp]:
    """The fold, 0 to `folds` − 1, of each of `rows`, (n,)."""
    return np.arange(rows.start, rows.stop) % folds


def _no_rows(zero: torch.Tensor, classes: int) -> Moments:
    dim = len(zero)
    return Moments(
        zero=zero,
        counts=zero.new_zeros(classes),
        sums=zero.new_zeros(classes, dim),
        products=zero.new_zeros(dim, dim),
    )


def _sum(parts: Sequence[torch.Tensor]) -> torch.Tensor:
    """The sum, one part at a time: the parts are large."""
    total = parts[0].clone()
    for part in parts[1:]:
        total += part
    return total
