"""What a classifier said of training and validation images while it had not seen them, kept beside it as Parquet.

Its choices were made by it; weights of several heads, calibration and "don't know" are, too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from features.stores import opened


@dataclass(frozen=True, kw_only=True)
class Unseen:
    """`keys` (n,) str, `labels` (n,) int32, and (n, k) float32 `probabilities` of whoever had not seen each image."""

    keys: NDArray[np.object_]
    labels: NDArray[np.int32]
    probabilities: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.labels)

    def write(self, path: Path) -> None:
        """Write columns `key`, `label` and `probabilities`, one non-nullable fixed-size list."""
        item = pa.field("item", pa.float32(), nullable=False)
        kinds: dict[str, Any] = {
            "key": pa.string(),
            "label": pa.int32(),
            "probabilities": pa.list_(item, self.probabilities.shape[1]),
        }
        shares = pa.array(self.probabilities.reshape(-1), type=pa.float32())
        lists: Any = pa.FixedSizeListArray.from_arrays(shares, type=kinds["probabilities"])
        schema = pa.schema([pa.field(name, kind, nullable=False) for name, kind in kinds.items()])
        columns: list[Any] = [pa.array(self.keys.tolist(), type=pa.string()), pa.array(self.labels), lists]
        pq.write_table(pa.Table.from_arrays(columns, schema=schema), path, compression="zstd")

    @classmethod
    def read(cls, path: Path) -> Self:
        """What `write` wrote; raises ValueError for a file that holds anything else."""
        try:
            table = pq.read_table(opened(path), columns=["key", "label", "probabilities"])
            lists: Any = table["probabilities"].combine_chunks()
            shares = lists.flatten().to_numpy().reshape(len(table), lists.type.list_size)
            keys, labels = (np.asarray(table[name]) for name in ("key", "label"))
        except (OSError, KeyError, AttributeError, pa.ArrowException, ValueError) as error:
            raise ValueError(f"no probabilities: {error}") from error
        return cls(keys=keys.astype(object), labels=labels.astype(np.int32), probabilities=shares.astype(np.float32))


def joined(parts: Sequence[Unseen]) -> Unseen:
    """All rows of the parts, in their order."""
    return Unseen(
        keys=np.concatenate([part.keys for part in parts]),
        labels=np.concatenate([part.labels for part in parts]),
        probabilities=np.concatenate([part.probabilities for part in parts]),
    )
