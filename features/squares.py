"""A source's images as squares of one size, decoded once into a file, so that epochs need no decoding.

    <folder>/squares.bin      (n, s, s, 3) uint8, one after the other; what could not be read is black, and never used
    <folder>/errors.parquet   key, reason, exception, as in a feature table
    <folder>/manifest.json    written last

Test images are not among them: nothing here learns from those.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from features.errors import SourceError, TableError, some
from features.locks import locked
from features.loop import OnImages, in_order
from features.outcomes import Outcome, Reader, decode_payload, failures, read_payload
from features.sources.source import LearningSplit, Source
from features.storage import Json, dataset_folder, digest, remove, replacing, write_json
from features.table.ledger import LEDGER, read_ledger, refuse_many, write_ledger
from features.table.manifest import MANIFEST
from features.trunk.recipe import Recipe, to_square

FORMAT = 2
"""Raised when the meaning of the file changes."""

SQUARES = "squares.bin"

BATCH_IMAGES = 64


@dataclass(frozen=True, kw_only=True)
class Squares:
    """Images whose shorter side became `recipe.resize` px and whose centre was kept, in a memory-mapped file.

    `pixels` is (n, s, s, 3) uint8, in a file in `folder`; `items` has one row a readable image, columns `key`, `split`
    and `label`, its index is the image's place in `pixels`; `ledger` has what could not be read.
    """

    folder: Path
    pixels: NDArray[np.uint8]
    items: pd.DataFrame
    ledger: pd.DataFrame
    recipe: Recipe

    def places(self, split: LearningSplit) -> NDArray[np.intp]:
        """Where the images of a split are in `pixels`."""
        return self.items.index[self.items["split"] == split].to_numpy(np.intp)

    def labels(self, places: NDArray[np.intp]) -> torch.Tensor:
        """Labels of the images at `places`, (n,) int64."""
        return torch.tensor(self.items["label"].reindex(places).to_numpy(np.int64))

    def read(self, places: NDArray[np.intp]) -> torch.Tensor:
        """The images at `places`, (n, 3, s, s) uint8, channels last."""
        return torch.from_numpy(self.pixels[places]).permute(0, 3, 1, 2)


def decode_once(
    source: Source, recipe: Recipe, root: Path, *, max_bad: float, on_images: OnImages, retry_bad: bool = False
) -> Squares:
    """Decode what may be learnt from in `source` into a folder in `root`, or find that done.

    With `retry_bad` it is not done where images could not be read. Raises SourceError where a larger share than
    `max_bad` could not be read, or nothing is left of validation or of a class; TableError where a file is damaged.
    """
    items = source.items[source.items["split"] != "test"]
    folder = root / _folder_name(source, recipe)
    with locked(folder):
        done = (folder / MANIFEST).exists()
        if done and not (retry_bad and len(read_ledger(folder))):
            on_images(len(items))
        else:
            remove(folder / MANIFEST)  # what it says holds no longer
            _write(folder, source, items, recipe, on_images)
        ledger = read_ledger(folder)
        pixels = _open(folder / SQUARES, (len(items), recipe.resize, recipe.resize, 3))
    refuse_many(ledger, len(items), max_bad, folder)
    readable = items.reset_index(drop=True)
    readable = readable[~readable["key"].isin(ledger["key"])]
    learnt = set(readable.loc[readable["split"] == "train", "label"])
    absent = [name for label, name in enumerate(source.classes) if label not in learnt]
    if absent or not (readable["split"] == "validation").any():
        what = f"training images of {some(absent)}" if absent else "validation images"
        raise SourceError(f"{source.name} has no readable {what}: see {folder / LEDGER}, and mend or add some")
    return Squares(folder=folder, pixels=pixels, items=readable, ledger=ledger, recipe=recipe)


def _folder_name(source: Source, recipe: Recipe) -> str:
    """`<dataset>-<size>px-<8 hex>`, another for every image, label, split, size and way of resizing or decoding."""
    sizes: dict[str, Json] = {"resize": recipe.resize, "how": recipe.interpolation}
    rules: dict[str, Json] = {"formats": recipe.formats, "most": recipe.max_pixels, "cut": recipe.accept_truncated}
    what: Json = {"format": FORMAT, "source": source.digest(), **sizes, **rules}
    return dataset_folder(source.name, f"-{recipe.resize}px-{digest(what)[:8]}")


def _write(folder: Path, source: Source, items: pd.DataFrame, recipe: Recipe, on_images: OnImages) -> None:
    outcomes: list[Outcome] = []
    readers = [partial(source.read, int(row)) for row in items.index]
    parts = (readers[start : start + BATCH_IMAGES] for start in range(0, len(readers), BATCH_IMAGES))
    decoded = in_order(lambda part: _squares(part, recipe), parts, torch.device("cpu"))
    # Written in order and not through the memory map, in which a full disk would kill the process.
    with replacing(folder / SQUARES) as scratch, scratch.open("wb") as file, closing(decoded):
        for squares, became in decoded:
            file.write(squares.tobytes())
            outcomes += became
            on_images(len(became))
    errors = failures(items["key"], outcomes)
    write_ledger(folder, errors)
    write_json(folder / MANIFEST, {"format": FORMAT, "images": len(items), "errors": len(errors), **asdict(recipe)})


def _squares(readers: Sequence[Reader], recipe: Recipe) -> tuple[NDArray[np.uint8], list[Outcome]]:
    squares = np.zeros((len(readers), recipe.resize, recipe.resize, 3), np.uint8)
    outcomes = [Outcome() for _ in readers]
    for reader, outcome, square in zip(readers, outcomes, squares, strict=True):
        payload = read_payload(reader, outcome)
        pixels = None if payload is None else decode_payload(payload, outcome, recipe)
        if pixels is not None:
            side = recipe.resize
            resized = to_square(pixels, resize=side, size=side, interpolation=recipe.interpolation)
            square[:] = resized.permute(1, 2, 0).numpy()
    return squares, outcomes


def _open(path: Path, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    try:
        return np.memmap(path, dtype=np.uint8, mode="r", shape=shape)
    except (OSError, ValueError) as error:
        raise TableError(f"{path} is cut short or missing: delete {path.parent} and run again") from error
