"""`python -m benchmarks export`: whether exports say what classifiers say, of every head on several trunks and sets.

And whether exports that are wrong on purpose are seen to be: each must fail with a sentence and leave no file.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

import onnx
import xgboost

from benchmarks.config import BenchExportConfig
from features.devices import resolve_device
from features.storage import Json, check_writable, write_json
from models.columns.workspace import Workspace
from models.export import heads
from models.heads.registry import DEFAULTS
from models.networks.settings import NETWORK
from pipeline.classifier_config import ExportConfig
from pipeline.console import remark, result, result_table
from pipeline.errors import ExportError
from pipeline.provenance import about
from pipeline.stages.export import run_export
from pipeline.stages.finetune import run_finetune
from pipeline.stages.heads import make_heads, train_heads
from pipeline.stages.search import find_settings
from pipeline.stages.tables import make_table, open_run

Ensemble = Callable[[xgboost.Booster], dict[str, Any]]


def a_round_short(whole: Ensemble) -> Ensemble:
    """The last round of trees is left out, as where the best iteration is not known."""
    return lambda booster: whole(booster[: booster.num_boosted_rounds() - 1])


def swapped(whole: Ensemble) -> Ensemble:
    """Classes in the other order."""

    def turned(booster: xgboost.Booster) -> dict[str, Any]:
        told = whole(booster)
        return told | {"target_ids": [told["n_targets"] - 1 - number for number in told["target_ids"]]}

    return turned


def from_nothing(whole: Ensemble) -> Ensemble:
    """No base margin."""

    def without(booster: xgboost.Booster) -> dict[str, Any]:
        told = whole(booster)
        return told | {"base_values": [0.0] * told["n_targets"]}

    return without


DEFECTS = {"a round short": a_round_short, "classes swapped": swapped, "no base margin": from_nothing}


@dataclass(frozen=True, kw_only=True)
class Line:
    """An export: what of, how far it is off and in how many `seconds` that was found; `failure` is empty where not.

    `defect` is what was wrong with it on purpose: then there has to be a failure.
    """

    dataset: str
    trunk: str
    head: str
    defect: str = ""
    failure: str = ""
    seconds: float = 0.0
    checks: Mapping[str, Any] | None = None
    megabytes: float = 0.0

    @property
    def holds(self) -> bool:
        """Whether it is as it should be."""
        return bool(self.failure) == bool(self.defect)

    def cells(self) -> tuple[str, ...]:
        """As it is shown."""
        checks = self.checks or {}
        off = [f"{checks[name]['off']:.1e}" if name in checks else "–" for name in ("features", "pixels")]
        images, same = (f"{checks['pixels']['images']:,}", f"{checks['pixels']['same']:.2%}") if checks else ("–", "–")
        verdict = ("refused" if self.failure else "passes") + ("" if self.holds else " (!)")
        names = self.dataset, self.trunk, self.head, self.defect, verdict
        return *names, images, *off, same, f"{self.megabytes:.1f}", f"{self.seconds:.0f}"


def run_bench_export(datasets: list[str], config: BenchExportConfig) -> None:
    """Export, print a table, write `bench/export.json`, and exit with 1 where a line is not as it should be."""
    folder = config.run.out / "bench"
    check_writable(folder)
    lines = [line for dataset in datasets for line in _lines(dataset, config)]
    names = ("set", "trunk", "head", "defect", "", "images", "by features", "by pixels", "same", "MB", "s")
    result_table(names, [line.cells() for line in lines], words=5)
    figures: Json = asdict(about(asdict(config), resolve_device(config.run.device))) | {
        "lines": [asdict(line) for line in lines]
    }
    write_json(folder / "export.json", figures)
    result(f"written to {folder / 'export.json'}")
    wrong = [line for line in lines if not line.holds]
    for line in wrong:
        remark(f"{line.dataset}, {line.trunk}, {line.head}: {line.failure or f'{line.defect} was not seen'}")
    if wrong:
        sys.exit(1)


def _lines(dataset: str, config: BenchExportConfig) -> Iterator[Line]:
    for trunk in config.trunks.split(","):
        yield from _of_trunk(dataset, trunk, config)
    if config.epochs:
        path = run_finetune(dataset, config.retraining()).path
        yield _exported(Line(dataset=_short(dataset), trunk="retrained", head=NETWORK), path)


def _of_trunk(dataset: str, trunk: str, config: BenchExportConfig) -> Iterator[Line]:
    """Every head on one trunk, and what is wrong on purpose with the trees on it."""
    asked, run = config.of(dataset, trunk), config.run
    opened = open_run(asked.features)
    table = make_table(opened, run)
    with Workspace() as workspace:
        candidates = find_settings(make_heads(config.heads.split(","), DEFAULTS, run), table, workspace, asked)
        trained = train_heads(candidates, table, workspace, run, weights=opened.weights_of(table))
    for name, each in trained.items():
        line = Line(dataset=_short(dataset), trunk=trunk, head=name)
        yield _exported(line, each.path)
        for defect, spoil in DEFECTS.items() if name == "xgb" else ():
            with patch.object(heads, "ensemble", spoil(heads.ensemble)):
                yield _exported(replace(line, defect=defect), each.path)


def _exported(line: Line, path: Path) -> Line:
    """The same line with what came of the export, whose file is not kept."""
    remark(f"{line.dataset}, {line.trunk}, {line.head} {line.defect}".rstrip())
    start = time.perf_counter()
    with TemporaryDirectory() as folder:
        file = Path(folder, "model.onnx")
        try:
            run_export(path, ExportConfig(out=file))
        except ExportError as error:
            left = "" if not any(Path(folder).iterdir()) else "it failed, and left files"
            return replace(line, failure="" if left else str(error), seconds=time.perf_counter() - start)
        told = {each.key: each.value for each in onnx.load(file).metadata_props}
        size = file.stat().st_size / 1e6
    seconds = time.perf_counter() - start
    return replace(line, checks=json.loads(told["card"])["checks"], megabytes=size, seconds=seconds)


def _short(dataset: str) -> str:
    return Path(dataset).name
