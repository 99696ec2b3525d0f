"""The training images that are nearest to an image, by the table that a classifier learnt from."""

from __future__ import annotations

import io
from base64 import b64encode
from collections.abc import Sequence
from pathlib import PureWindowsPath
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from features.near.search import EXACT_ROWS, Directions, Searcher
from features.storage import Json
from features.table.joined import JoinedTable

NEAREST = 6

SIDE = 96
"""Pixels of a picture's longer side, made of a thumbnail."""

MOST_NUMBERS = 2**28
"""Features of all training images together, each two bytes, that are read into memory."""


class Neighbours:
    """The training images of a table, by the directions of their features."""

    def __init__(self, table: JoinedTable) -> None:
        images = table.index().merge(table.images().drop(columns="sha256"), on="key", validate="1:1")
        self._images = images[images["split"] == "train"].reset_index(drop=True)
        self._thumbnails = table.thumbnails()[(images["split"] == "train").to_numpy()]
        self._classes = table.classes
        x = np.concatenate([rows.x.astype(np.float16) for rows in table.batches("train")])
        self._directions = Directions(x)
        self._searcher = Searcher(self._directions.of(x))

    def nearest(self, features: NDArray[np.float32]) -> list[dict[str, Json]]:
        """`name`, `label` and `picture` of the NEAREST images to (d,) features, the nearest first."""
        rows, _ = self._searcher.nearest(self._directions.of(features[None]), NEAREST)
        return [self._told(row) for row in rows[0]]

    def _told(self, row: int) -> dict[str, Json]:
        image: Any = self._images.iloc[row]
        picture = _as_uri(self._thumbnails[row], (image["width"], image["height"]))
        return {"name": _name(image["key"]), "label": self._classes[image["label"]], "picture": picture}


def why_not(table: JoinedTable) -> str:
    """Why a table's training images cannot be looked up, in a few words; empty where they can."""
    rows = table.rows.get("train", 0)
    if not rows:  # as of a network that was retrained, which learns from no table
        return "there is no table of what it learnt from"
    if rows > EXACT_ROWS or rows * table.dim > MOST_NUMBERS:
        return f"{rows:,} of {table.dim:,} features are too many to hold in memory"
    return ""


def _name(key: str) -> str:
    """A key, or the last part of one that leads out of its data set: no path of this machine is told."""
    path = PureWindowsPath(key)  # which takes both kinds of slashes
    return path.name if path.anchor or ".." in path.parts else key


def _as_uri(thumbnail: NDArray[np.uint8], size: Sequence[int]) -> str:
    """A thumbnail, which is square whatever its image is, in the shape of the image."""
    longer = max(size)
    image = Image.fromarray(thumbnail).resize([max(1, round(SIDE * side / longer)) for side in size])
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", quality=75)
    return f"data:image/webp;base64,{b64encode(buffer.getvalue()).decode('ascii')}"
