"""Estimators of scikit-learn and xgboost as if they had been fitted, made of arrays that were learnt elsewhere.

They have every attribute that `fit` would have left, so that whoever loads them can do with them what these libraries
allow. The arrays are all that is kept of a head where we read it ourselves: data, no program.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

import numpy as np
from numpy.typing import DTypeLike, NDArray

Arrays = Mapping[str, NDArray[Any]]
"""What was learnt, by name."""

Model = TypeVar("Model")


def as_fitted(model: Model, **learnt: object) -> Model:
    """`model` with what `fit` would have left on it, by attribute."""
    vars(model).update(learnt)
    return model


def array_of(arrays: Arrays, name: str, dtype: DTypeLike, *shape: int | None) -> NDArray[Any]:
    """The array called `name`, of this dtype and shape, None for any length; raises ValueError for another, or none."""
    found = arrays.get(name)
    if found is None:
        raise ValueError(f"`{name}` is missing")
    fits = len(shape) == found.ndim and all(want in (None, have) for want, have in zip(shape, found.shape, strict=True))
    if found.dtype != dtype or not fits:
        expected = "×".join("any" if length is None else str(length) for length in shape)
        raise ValueError(f"`{name}` is {found.dtype} {found.shape}, expected {np.dtype(dtype)} ({expected})")
    return found


def below(prefix: str, arrays: Arrays) -> Arrays:
    """Those whose names begin with `prefix` and a dot, without these."""
    return {name.removeprefix(f"{prefix}."): array for name, array in arrays.items() if name.startswith(f"{prefix}.")}
