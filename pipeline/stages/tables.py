"""Images and networks opened once, and the feature tables that come of them, made once and then reused."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from features.devices import resolve_device
from features.errors import counted
from features.extract import Extraction, extract
from features.making import Make, make_shards
from features.sources.options import NEAR
from features.sources.source import ALL, SPLITS, Source
from features.sources.splits import split_table
from features.table.images import ImagesOf
from features.table.joined import JoinedTable
from features.table.ledger import LEDGER
from features.timing import Timing
from features.trunk.loaded import open_networks
from features.trunk.trunk import Trunk, build_trunks, cut_trunk
from pipeline.config import HERE, FeaturesConfig, RunConfig
from pipeline.console import detail, progress, remark, remark_table, screen, warn
from pipeline.costs import spent
from pipeline.errors import PipelineError
from pipeline.report.splits import class_rows, few_test_images, split_rows
from pipeline.stages.likeness import run_likeness
from pipeline.stages.opened import Opened, open_images


def open_run(config: FeaturesConfig, *, unlabelled: bool = False) -> Opened:
    """Look at the images and the networks that `config` asks for, before time is spent on them.

    `unlabelled`: whether images without labels will do. Where those that look nearly the same are to be groups, the
    features that tell are made first.
    """
    device, run = resolve_device(config.run.device), config.run
    by_likeness = run.images.group == NEAR
    alone = replace(run, images=replace(run.images, group="")) if by_likeness else run
    source = open_images(config.dataset, alone, unlabelled=unlabelled)
    trunk = config.trunk.named(photographs=not source.mirror_matters)
    opened = Opened(source=source, trunk=trunk, networks=open_networks(trunk, seed=run.seed), device=device)
    if not by_likeness:
        return opened
    near = run_likeness(opened, make_table(opened, alone), alone).clusters()
    return replace(opened, source=open_images(config.dataset, run, unlabelled=unlabelled, near=near))


def say_images(source: Source) -> None:
    """Say how the images are laid out, and how many each split has."""
    if source.layout:
        remark(f"layout: {source.layout}")
    if source.excluded:
        remark(f"left out: {counted(source.excluded, 'image')}, as --exclude says")
    if not source.classes:
        return
    counts = split_table(source.items, source.classes)
    remark_table(("split", "images", "of a class"), split_rows(counts, source.drawn))
    if screen.verbose:
        remark_table(("class", *counts.columns), class_rows(counts))


def make_table(opened: Opened, run: RunConfig) -> JoinedTable:
    """Make the feature tables of what is opened, one a node, or find them finished."""
    trunks = [cut_trunk(loaded, opened.trunk, opened.device) for loaded in opened.networks]
    for loaded in opened.networks:
        if not loaded.weights.pretrained:
            name = loaded.backbone.name
            warn(f"random weights: {name} has learnt nothing, so this is no transfer learning (see --weights)")
    say_images(opened.source)
    return extract_table(opened.source, trunks, run, make=_where(opened, run))


def _where(opened: Opened, run: RunConfig) -> Make:
    """What makes shards: this process, or a cluster's workers, who open the same networks."""
    if run.on == HERE:
        return make_shards
    try:
        from features.cluster import make_on_ray  # an extra
    except ImportError as error:
        raise PipelineError(f"--on {run.on} came, but there is no Ray here: pip install 'treehead[ray]'") from error
    return partial(make_on_ray, run.address, partial(build_trunks, opened.trunk, seed=run.seed))


def extract_table(
    source: Source, trunks: Sequence[Trunk], run: RunConfig, *, max_bad: float | None = None, make: Make = make_shards
) -> JoinedTable:
    """Take the images of `source` through `trunks`, or find that done, and say what it took.

    `max_bad` stands in for that of `run`; `make` makes shards, see `extract`.
    """
    start = time.perf_counter()
    with progress(f"features of {source.name}", len(source.items)) as advance:
        done = extract(
            source,
            trunks,
            run.out / "features",
            max_bad=run.max_bad if max_bad is None else max_bad,
            retry_bad=run.retry_bad,
            on_images=lambda count: advance(count, ""),
            make=make,
        )
    seconds = time.perf_counter() - start
    table = JoinedTable(done.tables)
    ImagesOf.now(source.named, run.images).write([each.folder for each in done.tables])
    _say_features(table, done, seconds)
    if done.extracted:
        detail(spent(done.seconds, trunks[0].device))
    return table


def check_testable(table: JoinedTable) -> None:
    """Raise PipelineError for a table without test rows; a warning says where the test will be a weak one."""
    if not table.rows.get("test"):
        raise PipelineError(f"{table.folder} has no test rows: give the data set test images")
    counts = np.bincount(table.labels("test"), minlength=len(table.classes))
    for line in few_test_images(dict(zip(table.classes, map(int, counts), strict=True))):
        warn(line)


def us_per_image(table: JoinedTable) -> float | None:
    """Microseconds to turn one image into features, as measured when the tables were made; None where it was not."""
    timings = list(_timings(table).values())
    known = [timing for timing in timings if timing]
    if len(known) < len(timings):
        return None
    return known[0].us_per_image + sum(timing.own_us_per_image for timing in known[1:])


def us_by_network(table: JoinedTable) -> dict[str, float | None]:
    """Microseconds to turn one image into the features of each network, were it the only one."""
    return {name: timing.us_per_image if timing else None for name, timing in _timings(table).items()}


def _timings(table: JoinedTable) -> dict[str, Timing | None]:
    return {each.spec.trunk.backbone: Timing.read(each.folder) for each in table.tables}


def _say_features(table: JoinedTable, done: Extraction, seconds: float) -> None:
    counts = ", ".join(f"{table.rows[split]:,} {split}" for split in (*SPLITS, ALL) if split in table.rows)
    how = f"in {seconds:.1f} s" if done.extracted else "reused"
    if done.extracted and done.reused:
        how += f", {done.reused:,} of them reused"
    remark(f"features: {counts} images, {how}")
    for each in table.tables:
        trunk = each.spec.trunk
        pooled = "" if trunk.pool == "none" else f", pool {trunk.pool}"
        what = f"{trunk.title}{pooled}, {trunk.weights} weights"
        detail(f"{what}: {each.spec.dim:,} columns, {each.folder}")
    if table.errors:
        first = table.tables[0].ledger().iloc[0]
        warn(
            f"{table.errors:,} images could not be read and are not in the table (first: {first['key']}, "
            f"{first['reason']}): see {table.folder / LEDGER}"
        )
