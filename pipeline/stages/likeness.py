"""Which images of a table are nearly the same, and how odd each is: found once and then reused."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from sklearn.decomposition import PCA

from features.errors import DecodeError, SourceError, TableError, first_line
from features.locks import locked
from features.loop import run_batches
from features.near.changes import changed, sampled
from features.near.clusters import clusters
from features.near.pairs import Images, NearDoubles, near_doubles
from features.near.search import Directions
from features.sources.decode import decode
from features.sources.source import ALL, SPLITS, Source
from features.storage import digest, replacing
from features.stores import opened
from features.table.joined import JoinedTable
from features.trunk.loaded import Loaded
from features.trunk.trunk import Trunk, cut_trunk
from pipeline.config import RunConfig
from pipeline.console import progress, remark
from pipeline.stages.opened import Opened

FORMAT = 4
"""Raised when what is written changes, so that older files are not taken for newer."""

COMPONENTS = 128
"""Principal components of a set's features, which what is odd has least of."""

MOST_ROWS = 20_000
"""Rows that components are found by."""

CERTAIN = 1000.0
"""The score of images of the same bytes."""

DOUBLES, IMAGES = "doubles.parquet", "images.parquet"


@dataclass(frozen=True, kw_only=True)
class Likeness:
    """What a table's images are and who is like whom; `folder` has it as Parquet.

    `images` has a row an image: `key`, `split`, `label`, `group`, what `FeatureTable.images` tells, and how `odd` it
    is, see `_oddness`. `doubles` are pairs of its rows.
    """

    folder: Path
    images: pd.DataFrame
    doubles: NearDoubles

    def clusters(self) -> dict[str, str]:
        """For each image that has near-doubles, by key, the first of them and of theirs."""
        keys = self.images["key"]
        together = keys.groupby(clusters(self.doubles.first, self.doubles.second, len(keys)))
        several = together.transform("size") > 1
        return dict(zip(keys[several], together.transform("first")[several], strict=True))


def run_likeness(opened: Opened, table: JoinedTable, run: RunConfig) -> Likeness:
    """Look for near-doubles by the last node of the first network of a table, or find that done."""
    trunk = [each for each in table.trunks if each.backbone == table.trunks[0].backbone][-1]
    one = table.only([trunk.title])
    name = digest({"format": FORMAT, "table": one.identity, "seed": run.seed})[:8]
    folder = run.out / "inspect" / f"{one.name}-{name}"
    with locked(folder):
        if (folder / DOUBLES).exists():
            remark("near-doubles: reused")
        else:
            loaded = next(each for each in opened.networks if each.backbone.name == trunk.backbone)
            _write(folder, *_search(opened, one, loaded, run.seed))
        return _read(folder)


def _search(opened: Opened, table: JoinedTable, loaded: Loaded, seed: int) -> tuple[pd.DataFrame, NearDoubles]:
    images = table.index().merge(table.images().drop(columns="sha256"), on="key", validate="1:1")
    x = np.concatenate(
        [
            rows.x.astype(np.float16)
            for split in (*SPLITS, ALL)
            if table.rows.get(split)
            for rows in table.batches(split)
        ]
    )
    whole = Images(features=x, thumbnails=table.thumbnails())
    some = sampled(len(images), seed)
    with progress("near-doubles", 4 * len(images)) as advance:
        trunk = cut_trunk(loaded, opened.trunk, opened.device)
        node = [spec.node for spec in trunk.specs].index(table.trunks[0].node)
        originals, others = _changed(opened.source, images["key"].iloc[some].tolist(), trunk, node, seed)
        doubles = near_doubles(whole, some[originals], others, lambda rows: advance(rows, ""))
    return images.assign(odd=_oddness(x)), _with_copies(doubles, images["sha256"])


def _with_copies(doubles: NearDoubles, sha256: pd.Series[str]) -> NearDoubles:
    """The pairs, and before them each image of the same bytes as an earlier one, with it, whatever was found."""
    rows = np.arange(len(sha256))
    earlier = pd.Series(rows).groupby(sha256.to_numpy()).transform("first").to_numpy(np.int64)
    copies = rows[earlier != rows]
    near = earlier[doubles.first] != earlier[doubles.second]
    return NearDoubles(
        first=np.concatenate([earlier[copies], doubles.first[near]]),
        second=np.concatenate([copies, doubles.second[near]]),
        score=np.concatenate([np.full(len(copies), CERTAIN, np.float32), doubles.score[near]]),
        found=doubles.found,
    )


def _oddness(x: NDArray[np.float16]) -> NDArray[np.float32]:
    """How much of each direction of (n, d) features the set's principal components do not have, (n,), 0 to 1.

    That is the square root of the squared prediction error (Jackson and Mudholkar 1979, Technometrics 21).
    """
    rows = Directions(x).of(x).astype(np.float32)
    model = PCA(min(COMPONENTS, rows.shape[1], -(-len(rows) // 4)), random_state=0).fit(rows[:MOST_ROWS])
    rest: NDArray[np.float32] = np.linalg.norm(rows - model.inverse_transform(model.transform(rows)), axis=1)
    return rest


def _changed(
    source: Source, keys: Sequence[str], trunk: Trunk, node: int, seed: int
) -> tuple[NDArray[np.intp], Images]:
    """Which of the images of these `keys` can still be read, and what they are once changed, see `changed`."""
    places, random = pd.Series(source.items.index, source.items["key"]), np.random.default_rng(seed)
    kept, versions = [], []
    for number, key in enumerate(keys):
        try:
            pixels = decode(source.read(int(places[key])), trunk.spec)
        except (OSError, DecodeError):
            continue
        kept.append(number)
        versions += changed(np.broadcast_to(pixels, (*pixels.shape[:2], 3)), random)
    if not kept:
        raise SourceError(f"none of {len(keys)} images of {source.name} can be read any more: see where they are")
    batches = list(run_batches([trunk], [[partial(np.asarray, each) for each in versions]]))
    seen = [outcome.thumbnail for batch in batches for outcome in batch.outcomes if outcome.thumbnail is not None]
    features = np.concatenate([batch.features[node] for batch in batches])
    return np.array(kept, np.intp), Images(features=features, thumbnails=np.stack(seen))


def _write(folder: Path, images: pd.DataFrame, doubles: NearDoubles) -> None:
    """Pairs are written last: without them nothing is finished."""
    with replacing(folder / IMAGES) as scratch:
        images.to_parquet(scratch, index=False, compression="zstd")
    keys = images["key"].to_numpy()
    columns: list[Any] = [keys[doubles.first].tolist(), keys[doubles.second].tolist(), doubles.score]
    pairs = pa.table([pa.array(each) for each in columns], names=["key", "other", "score"])
    with replacing(folder / DOUBLES) as scratch:
        pq.write_table(pairs.replace_schema_metadata({"found": json.dumps(dict(doubles.found))}), scratch)


def _read(folder: Path) -> Likeness:
    try:
        images, pairs = pd.read_parquet(opened(folder / IMAGES)), pq.read_table(opened(folder / DOUBLES))
        rows = pd.Index(images["key"])
        first, second = (rows.get_indexer(pairs[name].to_pylist()) for name in ("key", "other"))
        found = json.loads((pairs.schema.metadata or {})[b"found"])
        score = pairs["score"].to_numpy().astype(np.float32)
        if min(first.min(initial=0), second.min(initial=0)) < 0:
            raise ValueError(f"{DOUBLES} names other images than {IMAGES}")
    except (OSError, KeyError, ValueError, pa.ArrowException) as error:
        raise TableError(f"{folder} is damaged ({first_line(error)}): delete it and run again") from error
    doubles = NearDoubles(first=first, second=second, score=score, found=found)
    return Likeness(folder=folder, images=images, doubles=doubles)
