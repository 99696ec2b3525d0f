"""Objects of scikit-learn that hold what was learnt elsewhere, so that they work without this project."""

from __future__ import annotations

from typing import TypeVar

Model = TypeVar("Model")


def as_fitted(model: Model, **learnt: object) -> Model:
    """`model` with what `fit` would have left on it, by attribute."""
    vars(model).update(learnt)
    return model
