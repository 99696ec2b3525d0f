"""A frozen trunk as a scikit-learn transformer: images in, features out, ready for a Pipeline."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from features.devices import resolve_device
from features.errors import SourceError
from features.loop import run_batches
from features.outcomes import Reader
from features.sources.decode import upright_rgb
from features.sources.files import read_file
from features.sources.formats.rules import MAX_PIXELS
from features.trunk.loaded import open_networks, weights_of
from features.trunk.spec import AUTO, TrunkOptions
from features.trunk.trunk import Trunk, cut_trunk, rebuild_trunks

ImageLike = str | os.PathLike[str] | Image.Image | NDArray[np.uint8]
"""A path, a PIL image, or pixels: (h, w) grey or (h, w, 3) RGB, uint8."""


class FrozenTrunk(TransformerMixin, BaseEstimator):
    """Turns images into the features of a frozen network, (n, dim) float32; nothing is learnt from them.

    The arguments are those of `TrunkOptions`; `backbone` and `node` may be several: their columns stand side by side.
    `device` is auto, cpu, cuda or cuda:N. A pickle holds what the trunk is made from and not its weights, which are
    built or read again, and checked, where it is loaded; `keep_weights` puts them in.

    After `fit`: `specs_` has a TrunkSpec for each node, `dims_` their columns, `n_features_out_` is dim. After
    scikit-learn's estimators and skrub's TextEncoder.

    >>> trunk = FrozenTrunk("squeezenet1_1", weights="random", pool="avg", image_size=32)
    >>> trunk.fit_transform(["photos/oak/0001.jpg", np.zeros((40, 30, 3), np.uint8)]).shape
    (2, 512)
    >>> trunk.get_feature_names_out()[:2].tolist()
    ['features_0', 'features_1']
    """

    def __init__(
        self,
        backbone: str = "alexnet",
        *,
        weights: str = AUTO,
        node: str | None = None,
        pool: str = "auto",
        image_size: int | None = None,
        max_pixels: int = MAX_PIXELS,
        accept_truncated: float = 0.0,
        precision: str = "auto",
        engine: str = "auto",
        compiled: bool = False,
        decoder: Literal["pillow", "nvjpeg"] = "pillow",
        device: str = "auto",
        seed: int = 0,
        keep_weights: bool = False,
    ) -> None:
        self.backbone = backbone
        self.weights = weights
        self.node = node
        self.pool = pool
        self.image_size = image_size
        self.max_pixels = max_pixels
        self.accept_truncated = accept_truncated
        self.precision = precision
        self.engine = engine
        self.compiled = compiled
        self.decoder = decoder
        self.device = device
        self.seed = seed
        self.keep_weights = keep_weights

    def fit(self, images: Iterable[ImageLike], y: object = None) -> Self:
        """Build the trunk; raises TrunkError or DeviceError where that cannot be done."""
        options = TrunkOptions(**{each.name: getattr(self, each.name) for each in fields(TrunkOptions)})
        device = resolve_device(self.device)
        networks = open_networks(options, seed=self.seed)
        self._trunks = tuple(cut_trunk(loaded, options, device) for loaded in networks)
        self.specs_ = tuple(spec for trunk in self._trunks for spec in trunk.specs)
        self.dims_ = tuple(dim for trunk in self._trunks for dim in trunk.dims)
        self.weights_ = weights_of(networks)
        self.n_features_out_ = sum(self.dims_)
        return self

    def transform(self, images: Iterable[ImageLike]) -> NDArray[np.float32]:
        """Features of n images, (n, dim) float32; raises SourceError for one that cannot be read."""
        check_is_fitted(self, "specs_")
        if not hasattr(self, "_trunks"):  # a pickle came without their weights
            self._trunks = rebuild_trunks(self.specs_, weights=self.weights_, device=resolve_device(self.device))
        return features_of(images, self._trunks)

    def get_feature_names_out(self, input_features: object = None) -> NDArray[np.object_]:
        """`<node>_<column>` for every column, of several networks `<backbone>.<node>_<column>`."""
        check_is_fitted(self, "specs_")
        several = len({spec.backbone for spec in self.specs_}) > 1
        titles = [spec.title if several else spec.node for spec in self.specs_]
        names = [f"{title}_{i}" for title, dim in zip(titles, self.dims_, strict=True) for i in range(dim)]
        return np.array(names, dtype=object)

    def __getstate__(self) -> dict[str, Any]:
        parent: Any = super()  # scikit-learn's has no types
        state: dict[str, Any] = dict(parent.__getstate__())
        if not self.keep_weights:
            state.pop("_trunks", None)
        return state


def features_of(images: Iterable[ImageLike], trunks: Sequence[Trunk]) -> NDArray[np.float32]:
    """Features of n images, (n, dim) float32, nodes side by side; raises SourceError for one that cannot be read."""
    images = list(images)  # a pandas Series counts by its index, not by position
    readers = [_reader(image) for image in images]
    parts = [np.empty((0, sum(sum(trunk.dims) for trunk in trunks)), np.float32)]
    with closing(run_batches(trunks, [readers])) as batches:
        for batch in batches:
            for position, outcome in enumerate(batch.outcomes, start=sum(map(len, parts))):
                if outcome.reason:
                    image = images[position]
                    shown = image if isinstance(image, str | os.PathLike) else type(image).__name__
                    raise SourceError(f"image {position} ({shown}) has no features: {outcome.reason}; leave it out")
            parts.append(np.hstack(batch.features).astype(np.float32))
    return np.concatenate(parts)


def _reader(image: ImageLike) -> Reader:
    """Reads one image as extraction does."""
    if isinstance(image, Image.Image):
        return partial(upright_rgb, image)
    if isinstance(image, np.ndarray):
        colours = image.shape[2:] in ((), (3,))
        if image.dtype != np.uint8 or image.ndim not in (2, 3) or not colours or not image.size:
            raise SourceError(
                f"pixels of shape {image.shape} and type {image.dtype} came: expected (h, w) or (h, w, 3) uint8"
            )
        return partial(np.array, image, order="C")  # a copy: pixels may come read-only, or mirrored, as a view
    if isinstance(image, str | os.PathLike):
        return partial(read_file, Path(image))
    raise SourceError(f"{type(image).__name__} is no image: expected a path, a PIL image or an array of uint8")
