"""The command line: one command a stage, settings from the stage's dataclass, errors in one line and exit code 2.

Each command imports its stage when it runs, so that help and a mistyped option need not wait for torch.
"""

from __future__ import annotations

import atexit
import gc
import logging
import os
import sys
import warnings
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Annotated

from cyclopts import App, CycloptsError, Parameter

from features.errors import FeaturesError
from models.errors import ModelsError
from models.heads.settings import XgbSettings
from pipeline.bench.config import BenchFeaturesConfig
from pipeline.config import (
    CompareConfig,
    FeaturesConfig,
    FinetuneConfig,
    PredictConfig,
    PretrainConfig,
    XgbConfig,
)
from pipeline.console import as_options, fail, result, warn
from pipeline.errors import PipelineError
from pipeline.release import release

app = App(
    name="treehead",
    version=release,
    suppress_keyboard_interrupt=False,
    default_parameter=Parameter(negative=()),
    help="""Labelled images in, the classifier to ship out: deep features, boosted trees, and an honest comparison.

    A frozen network turns images into a table of features (features), XGBoost learns from it (xgb), and a comparison
    on images that no head has learnt from says what to ship (compare). Each stage first runs those it needs, and no
    work is done twice. Try: treehead compare --dataset PHOTOS --weights imagenet
    """,
)

bench = App(name="bench", help="Measure this machine; every figure is a ratio of one run.")
app.command(bench)

Flat = Parameter(name="*")

_TREES = [each.name.replace("_", "-") for each in fields(XgbSettings)]
_OF_TREES = {f"--{name}": f"--{XgbSettings.head}.{name}" for name in _TREES}
_TRUNK = {"--compile": "--compiled"}
_VIEWS = {
    "--least-area": "--min-area",
    "--most-stretch": "--max-stretch",
    "--most-degrees": "--max-degrees",
    "--mirrored": "--hflip",
}
_NETWORK = {old.replace("--", "--finetune."): new.replace("--", "--network.") for old, new in _VIEWS.items()}
RENAMED: dict[str, dict[str, str]] = {
    "features": _TRUNK,
    "xgb": _TRUNK | _OF_TREES,
    "compare": _TRUNK | _OF_TREES | _NETWORK | {"--finetune.": "--network."},
    "finetune": _VIEWS,
    "pretrain": _VIEWS,
}
"""By command, the options of the last release that have another name now; these go with the next one.

One that ends in a dot stands for all that begin with it, and the first that fits is taken.
"""

_FEATURES, _XGB, _COMPARE, _PREDICT = FeaturesConfig(), XgbConfig(), CompareConfig(), PredictConfig()
_FINETUNE, _PRETRAIN = FinetuneConfig(), PretrainConfig()
_BENCH_FEATURES = BenchFeaturesConfig()


@app.command
def features(config: Annotated[FeaturesConfig, Flat] = _FEATURES) -> None:
    """Run a frozen network over images and write a feature table for each node; prints each table's folder."""
    from pipeline.stages.tables import make_table, open_run

    for table in make_table(open_run(config), config).tables:
        result(str(table.folder))


@app.command
def xgb(config: Annotated[XgbConfig, Flat] = _XGB) -> None:
    """Train boosted trees on the feature table; prints the path of xgb.joblib."""
    from pipeline.stages.heads import run_xgb

    result(str(run_xgb(config).path))


@app.command
def compare(config: Annotated[CompareConfig, Flat] = _COMPARE) -> None:
    """Hold the heads against one another on the test images; prints a table and where the report is."""
    from pipeline.stages.compare import run_compare

    run_compare(config)


@app.command
def predict(
    model: Annotated[
        Path, Parameter(help="A classifier of xgb, compare or finetune: xgb.joblib, mlp.joblib, network.safetensors.")
    ],
    images: Annotated[
        tuple[Path, ...], Parameter(negative=(), help="Image files, and folders to search for them.")
    ] = (),
    config: Annotated[PredictConfig, Flat] = _PREDICT,
) -> None:
    """Classify images with a trained classifier, or, with --imagenet and no classifier, as ImageNet's classes."""
    if config.imagenet:
        from pipeline.stages.imagenet import run_imagenet

        run_imagenet([model, *images], config)
        return
    from pipeline.stages.predict import run_predict

    run_predict(model, images, config)


@app.command
def finetune(
    dataset: Annotated[str, Parameter(help="Images to learn from, as --dataset of the other commands takes them.")],
    config: Annotated[FinetuneConfig, Flat] = _FINETUNE,
) -> None:
    """Retrain the network itself; prints the path of network.safetensors, which predict takes and compare tests."""
    from pipeline.stages.finetune import run_finetune

    result(str(run_finetune(dataset, config).path))


@app.command
def pretrain(
    dataset: Annotated[str, Parameter(help="Images to learn from, as --dataset of the other commands takes them.")],
    config: Annotated[PretrainConfig, Flat] = _PRETRAIN,
) -> None:
    """Train a backbone from scratch and write its trunk, for --weights; prints the trunk's path."""
    from pipeline.stages.pretrain import run_pretrain

    result(str(run_pretrain(dataset, config)))


@bench.command(name="features")
def bench_features(config: Annotated[BenchFeaturesConfig, Flat] = _BENCH_FEATURES) -> None:
    """Measure extraction against the network alone and the tutorials' way; prints tables of rates and ratios."""
    from pipeline.bench.features import run_bench_features

    run_bench_features(config)


def main() -> None:
    """Run the command line and leave the process; a person's mistake is one line and exit code 2."""
    gc.set_threshold(1_000_000, 20, 100)  # imports make most of a million objects, all of them here to stay
    atexit.register(gc.freeze)  # nor need they be looked through at the end, which takes a second
    run_app(app)


def run_app(app: App) -> None:
    """Run an app's command with the process's arguments: what went wrong on purpose is a line, and the exit code 2."""
    handler = logging.StreamHandler()
    handler.setFormatter(_AsOptions("! %(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    warnings.simplefilter("ignore")  # libraries' advice to programmers is of no use to who runs a command
    try:
        app(with_new_names(sys.argv[1:]), exit_on_error=False, print_error=False)
    except (FeaturesError, ModelsError, PipelineError, CycloptsError) as error:
        fail(str(error))
        sys.exit(2)
    except BrokenPipeError:  # whoever read the results has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except OSError as error:  # a file that can neither be named nor reached is the machine's matter, not a bug
        where = error.filename or "the operating system refused"
        fail(f"{error.strerror or error} ({where}): check the path and its disk")
        sys.exit(2)
    except KeyboardInterrupt:
        fail("interrupted: what was finished is kept, and the same command goes on from there")
        sys.exit(2)


def with_new_names(arguments: list[str]) -> list[str]:
    """A command's arguments, options of RENAMED by the name that they have now; a line for each says so."""
    renamed = RENAMED.get(arguments[0], {}) if arguments else {}
    return [_with_new_name(argument, renamed) for argument in arguments]


def _with_new_name(argument: str, renamed: Mapping[str, str]) -> str:
    option, equals, value = argument.partition("=")
    for old, new in renamed.items():
        if option == old or (old.endswith(".") and option.startswith(old)):
            now = new + option.removeprefix(old)
            warn(f"{option} is now {now}: the old name goes with the next release")
            return now + equals + value
    return argument


class _AsOptions(logging.Formatter):
    """Says what a library of ours logs as the command line says it."""

    def format(self, record: logging.LogRecord) -> str:
        return as_options(super().format(record))
