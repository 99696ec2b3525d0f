"""Images that are one picture, from the pairs that are."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components


def clusters(first: NDArray[np.int64], second: NDArray[np.int64], n: int) -> NDArray[np.int64]:
    """The cluster of each of n images, (n,), numbered in the order of their first images; one alone is its own.

    Whoever a chain of pairs connects is together.

    >>> clusters(np.array([0, 2]), np.array([2, 4]), 5).tolist()
    [0, 1, 0, 2, 0]
    """
    linked = coo_array((np.ones(len(first), np.int8), (first, second)), shape=(n, n))
    labels = connected_components(linked, directed=False)[1]
    _, start, inverse = np.unique(labels, return_index=True, return_inverse=True)
    numbers: NDArray[np.int64] = np.argsort(np.argsort(start))[inverse]
    return numbers
