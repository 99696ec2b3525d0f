"""Sums over the processes that learn one model together, each from its own rows; what one alone has is the sum.

All of them run the same code, and meet here in the same order. XGBoost's own communicator carries this as it does what
trees exchange: outside of it there is one process.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from xgboost import collective


def are_several() -> bool:
    """Whether other processes learn with this one."""
    return bool(collective.is_distributed())


def total(array: NDArray[Any]) -> NDArray[Any]:
    """The sum of what all processes have, of the same shape and dtype.

    >>> total(np.array([1.5, 2.0]))
    array([1.5, 2. ])
    """
    if not are_several():
        return array
    return collective.allreduce(np.ascontiguousarray(array), collective.Op.SUM).reshape(array.shape)


def total_of(tensors: Sequence[torch.Tensor]) -> None:
    """Make each tensor the sum of what all processes have of it, in place."""
    if are_several():
        for tensor in tensors:
            tensor.copy_(torch.from_numpy(total(tensor.detach().cpu().numpy())))


def count(rows: int) -> int:
    """How many rows all processes have."""
    return int(total(np.array([rows]))[0])


def before(rows: int) -> int:
    """How many of all rows come before those of this process."""
    if not are_several():
        return 0
    rank = collective.get_rank()
    return sum(each for other, each in enumerate(_of_each(rows)) if other < rank)


def mean(values: NDArray[np.floating]) -> float:
    """The mean over the rows of all processes, of this one's values (n,)."""
    if not are_several():
        return float(values.mean())
    summed, rows = total(np.array([values.sum(dtype=np.float64), len(values)]))
    return float(summed / rows)


def everyones(rows: NDArray[Any]) -> NDArray[Any]:
    """The rows of all processes, one after another's."""
    return np.concatenate(_of_each(rows)) if are_several() else rows


def firsts(value: Any) -> Any:
    """What the first process has."""
    return collective.broadcast(value, 0) if are_several() else value


def _of_each(value: Any) -> list[Any]:
    ranks = range(collective.get_world_size())
    return [collective.broadcast(value if rank == collective.get_rank() else None, rank) for rank in ranks]
