"""The feature tables that a stage asks for, made once and then reused."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path

from features.devices import resolve_device
from features.extract import Extraction, extract
from features.sources.registry import open_source
from features.sources.source import Source
from features.storage import check_writable, write_json
from features.table.joined import JoinedTable
from features.table.ledger import LEDGER
from features.trunk.spec import AUTO_WEIGHTS, NAMED_WEIGHTS, TrunkOptions, parse_nodes
from features.trunk.trunk import Trunk, build_trunk
from pipeline.config import FeaturesConfig
from pipeline.console import progress, remark, warn
from pipeline.costs import spent
from pipeline.errors import PipelineError

TIMING = "timing.json"
"""Beside a table: how long its extraction took. Apart from the manifest, which is the same wherever it is made."""


@dataclass(frozen=True, kw_only=True)
class Features:
    """Feature tables, and the `--weights` that their trunk can be built from: a name or an absolute path."""

    table: JoinedTable
    weights: str


def check_testable(table: JoinedTable) -> None:
    """Raise PipelineError for a table without test rows."""
    if not table.rows.get("test"):
        raise PipelineError(f"{table.folder} has no test rows: give the data set test images")


def us_per_image(table: JoinedTable) -> float | None:
    """Microseconds to turn one image into features, as measured when the table was made."""
    try:
        timing = json.loads((table.folder / TIMING).read_text(encoding="utf-8"))
        return float(timing["seconds"]) / int(timing["images"]) * 1e6
    except (OSError, ValueError, KeyError, TypeError, ZeroDivisionError):
        return None


def run_features(config: FeaturesConfig) -> Features:
    """Make the feature table that `config` asks for, or find it finished."""
    device = resolve_device(config.device)
    check_writable(config.out)
    source = open_source(config.dataset, data_dir=config.data_dir, train_limit=config.train_limit, seed=config.seed)
    trunk = build_trunk(trunk_options(config), device)
    if not trunk.spec.pretrained:
        warn("random weights: the network has learnt nothing, so this is no transfer learning (see --weights)")
    table = extract_table(source, trunk, config.out, max_bad=config.max_bad, retry_bad=config.retry_bad)
    named = config.weights in (AUTO_WEIGHTS, *NAMED_WEIGHTS)
    return Features(table=table, weights=trunk.spec.weights if named else str(Path(config.weights).resolve()))


def extract_table(source: Source, trunk: Trunk, out: Path, *, max_bad: float, retry_bad: bool = False) -> JoinedTable:
    """Take the images of `source` through `trunk`, or find that done, and say what it took."""
    start = time.perf_counter()
    with progress(f"features of {source.name}", len(source.items)) as advance:
        done = extract(
            source,
            trunk,
            out / "features",
            max_bad=max_bad,
            retry_bad=retry_bad,
            on_images=lambda count: advance(count, ""),
        )
    seconds = time.perf_counter() - start
    table = JoinedTable(done.tables)
    _say_features(table, done, seconds)
    if done.extracted:
        remark(spent(done.seconds, trunk.device))
        timing = {
            "images": done.extracted,
            "seconds": seconds,
            "device": str(trunk.device),
            "stages": dict(done.seconds),
        }
        for each in done.tables:
            write_json(each.folder / TIMING, timing)
    return table


def trunk_options(config: FeaturesConfig) -> TrunkOptions:
    """The trunk that `config` asks for."""
    return TrunkOptions(
        backbone=config.backbone,
        weights=config.weights,
        nodes=parse_nodes(config.node),
        pool=config.pool,
        image_size=config.image_size,
        precision=config.precision,
        compiled=config.compile,
        decoder=config.decoder,
        seed=config.seed,
    )


def _say_features(table: JoinedTable, done: Extraction, seconds: float) -> None:
    counts = ", ".join(f"{table.rows.get(split, 0):,} {split}" for split in ("train", "validation", "test"))
    how = f"{done.extracted:,} images in {seconds:.1f} s, {done.extracted / seconds:.0f} a second"
    if not done.extracted:
        how = "reused"
    elif done.reused:
        how += f", {done.reused:,} found in finished shards"
    remark(f"features: {counts} rows, {how}")
    for each in table.tables:
        trunk = each.spec.trunk
        pooled = "" if trunk.pool == "none" else f", pool {trunk.pool}"
        what = f"{trunk.backbone}.{trunk.node}{pooled}, {trunk.weights} weights"
        remark(f"  {what}: {each.spec.dim:,} columns, {each.folder}")
    if table.errors:
        warn(f"{table.errors:,} images could not be read and are not in the table: see {table.folder / LEDGER}")
