"""Images that are one picture, from the pairs that are."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components


def clusters(first: NDArray[np.integer[Any]], second: NDArray[np.integer[Any]], n: int) -> NDArray[np.intp]:
    """The cluster of each of n images, (n,), numbered in the order of their first images; one alone is its own.

    Whoever a chain of pairs connects is together.

    >>> clusters(np.array([0, 2]), np.array([2, 4]), 5).tolist()
    [0, 1, 0, 2, 0]
    """
    linked = coo_array((np.ones(len(first), bool), (first, second)), shape=(n, n))
    return pd.factorize(connected_components(linked, directed=False)[1])[0]
