"""A feature table in the making: which of its shards are finished, and the ledger and manifest that close it."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path

import pandas as pd

from features.storage import remove, write_json
from features.table.ledger import refuse_many, write_ledger
from features.table.manifest import MANIFEST, TableSpec, recorded_shards
from features.table.reuse import EarlierRows
from features.table.shard import ShardSummary, copy_shard, name_shards, read_summary, write_shard
from features.table.table import FeatureTable, close_table
from features.timing import TIMING, Timing

logger = logging.getLogger(__name__)


class TableWriter:
    """Writes the shards of one table that are not finished yet; `parts` are the source's items, shard by shard.

    What earlier tables of the same trunk have of its images is taken over from there. With `retry_bad` no shard is
    finished that could not read all of its images.
    """

    def __init__(self, root: Path, spec: TableSpec, parts: Sequence[pd.DataFrame], *, retry_bad: bool) -> None:
        self.spec = spec
        self.folder = root / spec.folder_name
        self._shards = name_shards(spec, parts)
        self._retry_bad = retry_bad
        self._finished: dict[int, ShardSummary] = {}

    def find_finished(self) -> None:
        """Look for the shards that need not be made, here and among earlier tables; damaged ones here are removed."""
        self._remove_damaged()
        for number, shard in enumerate(self._shards):
            found = read_summary(self.folder / shard.name)
            if found and found.fingerprint == shard.fingerprint and not (self._retry_bad and found.errors):
                self._finished[number] = found
        missing = [number for number in range(len(self._shards)) if number not in self._finished]
        if missing:
            self._reopen()
            self._reuse(missing)

    @property
    def is_finished(self) -> bool:
        """Whether no shard is left to be made."""
        return len(self._finished) == len(self._shards)

    def bad_keys(self, number: int) -> frozenset[str] | None:
        """The images that finished shard `number` has no features of; None where it is not finished."""
        found = self._finished.get(number)
        return None if found is None else frozenset(error["key"] for error in found.errors)

    def redo(self, number: int) -> None:
        """Take shard `number` for unfinished."""
        self._reopen()
        del self._finished[number]

    def write(self, number: int) -> partial[ShardSummary] | None:
        """What writes shard `number`, here or in another process, see `write_shard`; None where it is finished."""
        if number in self._finished:
            return None
        shard = self._shards[number]
        return partial(write_shard, self.folder / shard.name, self.spec, shard)

    def note(self, number: int, summary: ShardSummary) -> None:
        """Take shard `number` for finished."""
        self._finished[number] = summary

    def finish(self, max_bad: float) -> FeatureTable:
        """Write the ledger and, last, the manifest, and open the table.

        Raises SourceError where a larger share of images than `max_bad` could not be read: the manifest is not written.
        """
        summaries = [self._finished[number] for number in range(len(self._shards))]
        ledger = write_ledger(self.folder, [error for summary in summaries for error in summary.errors])
        refuse_many(ledger, sum(len(shard.items) for shard in self._shards), max_bad, self.folder)
        rows: Counter[str] = Counter()
        for summary in summaries:
            rows.update(summary.rows)
        close_table(self.folder, self.spec, rows, len(ledger), [shard.name for shard in self._shards])
        return FeatureTable.open(self.folder)

    def _reopen(self) -> None:
        """Until `finish`, the table is not complete."""
        remove(self.folder / MANIFEST)

    def _remove_damaged(self) -> None:
        for name, record in recorded_shards(self.folder).items():
            path = self.folder / name
            if path.exists() and not record.fits(path):
                logger.warning("%s is damaged (it is not the file that %s names): it is made anew", path, MANIFEST)
                remove(path)

    def _reuse(self, missing: Sequence[int]) -> None:
        """Write those of the shards `missing` whose rows all stand in earlier tables, or elsewhere in this one."""
        folders = sorted(self.folder.parent.glob(f"{self.spec.stem}-*"))
        earlier = EarlierRows(self.spec, folders, pd.concat([self._shards[number].items for number in missing]))
        for number in missing:
            shard = self._shards[number]
            images = earlier.of(shard.items)
            if images is not None:
                self._finished[number] = copy_shard(self.folder / shard.name, self.spec, shard, images)
        timings = list(filter(None, map(Timing.read, [self.folder, *earlier.folders()])))
        if self.is_finished and timings:
            write_json(self.folder / TIMING, asdict(timings[0]))
