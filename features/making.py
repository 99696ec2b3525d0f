"""Shards made: the images of each taken through trunks, and its file of every table written meanwhile.

What is finished already, and what closes a table, is not known here: see `features.extract`.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import pandas as pd

from features.devices import writer_count
from features.looks import LOOKS
from features.loop import Batch, run_batches
from features.outcomes import failures
from features.sources.source import Source
from features.table.shard import ShardSummary
from features.timing import added
from features.trunk.trunk import Trunk

Write = partial[ShardSummary]
"""`write_shard` with the first of its arguments, so that the images, features and errors are left to be given."""


@dataclass(frozen=True, kw_only=True)
class Order:
    """A shard to be made of a source's `items`; `writes`, trunk by trunk and node by node, None where it is there."""

    items: pd.DataFrame
    writes: Sequence[Sequence[Write | None]]


@dataclass(frozen=True, kw_only=True)
class Step:
    """What has been done since the step before: so many `images` taken through trunks, and shards `written`.

    `once` are the seconds that threads spent on what is done once, `own` those of each trunk. `ends_shard` says that a
    shard's last images are among these; `written` has by number the summaries of all that `Order.writes` wrote.
    """

    images: int = 0
    once: Mapping[str, float] = field(default_factory=dict)
    own: Sequence[Mapping[str, float]]
    ends_shard: bool = False
    written: Mapping[int, Sequence[ShardSummary]] = field(default_factory=dict)

    def then(self, later: Step) -> Step:
        """This step and a `later` one as a single one."""
        return Step(
            images=self.images + later.images,
            once=added(self.once, later.once),
            own=list(map(added, self.own, later.own)),
            ends_shard=self.ends_shard or later.ends_shard,
            written={**self.written, **later.written},
        )


Make = Callable[[Source, Sequence[Trunk], Mapping[int, Order]], Generator[Step]]
"""Makes the shards that are ordered, by number, here or elsewhere: see `make_shards`."""


def make_shards(source: Source, trunks: Sequence[Trunk], orders: Mapping[int, Order]) -> Generator[Step]:
    """Make shards in this process, each written while the next images are on their way."""
    threads = writer_count(trunks[0].device)
    writing: deque[Future[Step]] = deque()
    parts = ([partial(source.read, int(row)) for row in order.items.index] for order in orders.values())
    batches = run_batches(trunks, parts)
    with closing(batches), ThreadPoolExecutor(threads) as pool:
        for number, order in orders.items():
            taken: list[Batch] = []
            missing = len(order.items)
            while missing:
                taken.append(next(batches))
                images = len(taken[-1].outcomes)
                missing -= images
                seconds = taken[-1].trunk_seconds
                yield Step(images=images, once=taken[-1].seconds, own=seconds, ends_shard=not missing)
            writing.append(pool.submit(_write, number, order, taken))
            if len(writing) > threads:
                yield writing.popleft().result()
        while writing:
            yield writing.popleft().result()


def _write(number: int, order: Order, batches: list[Batch]) -> Step:
    """Write the shard of every table that lacks it."""
    items = order.items
    outcomes = [outcome for batch in batches for outcome in batch.outcomes]
    good = {row: outcome for row, outcome in zip(items.index, outcomes, strict=True) if not outcome.reason}
    looks = pd.DataFrame(np.concatenate([batch.looks for batch in batches]), list(good), columns=list(LOOKS))
    told = {name: [getattr(each, name) for each in good.values()] for name in ("sha256", "bytes", "width", "height")}
    thumbnails = [each.thumbnail.ravel() for each in good.values() if each.thumbnail is not None]
    images = looks.assign(**told, thumbnail=pd.Series(thumbnails, looks.index, dtype=object))
    errors = failures(items["key"], outcomes)
    seconds, summaries, node = [], [], 0
    for writes in order.writes:
        start = time.perf_counter()
        for write in writes:
            if write:
                summaries.append(write(images, np.concatenate([batch.features[node] for batch in batches]), errors))
            node += 1
        seconds.append({"write": time.perf_counter() - start})
    return Step(own=seconds, written={number: summaries})
