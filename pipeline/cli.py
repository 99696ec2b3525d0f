"""The command line: one command a stage, settings from the stage's dataclass, errors in one line and exit code 2.

Each command imports its stage when it runs, so that help and a mistyped option need not wait for torch.
"""

from __future__ import annotations

import atexit
import gc
import logging
import signal
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache, partial
from typing import Annotated

from cyclopts import App, CycloptsError, Parameter
from cyclopts.exceptions import UnusedCliTokensError

from features.errors import FeaturesError, SourceError
from features.stores import place
from features.trunk.spec import AUTO
from features.trunk.torchvision_families import check_beginning
from models.errors import ModelsError
from pipeline.arguments import as_now
from pipeline.bench.config import BenchFeaturesConfig
from pipeline.classifier_config import ExportConfig, PredictConfig, ServeConfig
from pipeline.config import (
    IMAGES,
    CompareConfig,
    CurveConfig,
    FeaturesConfig,
    FinetuneConfig,
    InspectConfig,
    Place,
    PretrainConfig,
    ScreenConfig,
    XgbConfig,
)
from pipeline.console import drop_output, fail, flush, result, screen, starting, warn
from pipeline.errors import PipelineError
from pipeline.release import release
from pipeline.surroundings import check_folders, prepare, unwinding

GO_ON = ("features", "xgb", "inspect", "compare", "curve", "finetune", "pretrain")
"""The commands that go on, when called again, from where they were interrupted."""

_GOES_ON = "interrupted: what was finished is kept, and the same command goes on from there"

OURS = ("features", "models", "pipeline", "benchmarks")

app = App(
    name="treehead",
    version=release,
    suppress_keyboard_interrupt=False,
    default_parameter=Parameter(negative=()),
    help="""Labelled images in, the classifier to ship out: deep features, boosted trees, and an honest comparison.

    A frozen network turns images into a table of features (features), XGBoost learns from it (xgb), and a comparison
    on images that no head has learnt from says what to ship (compare). Each stage first runs those it needs, and no
    work is done twice. Try: treehead compare PHOTOS
    """,
)
app.register_install_completion_command(help="Let Tab complete treehead's options in your shell.")

bench = App(name="bench", help="Measure this machine; every figure is a ratio of one run.")
app.command(bench)

Flat = Parameter(name="*")

_FEATURES, _XGB, _COMPARE, _PREDICT = FeaturesConfig(), XgbConfig(), CompareConfig(), PredictConfig()
_INSPECT, _EXPORT = InspectConfig(), ExportConfig()
_CURVE, _FINETUNE, _PRETRAIN = CurveConfig(), FinetuneConfig(), PretrainConfig()
_SERVE = ServeConfig()
_BENCH_FEATURES = BenchFeaturesConfig()
_SHOW = ScreenConfig()

Model = Annotated[
    Place, Parameter(help="A classifier of xgb, compare or finetune: xgb.joblib, mlp.joblib, network.safetensors.")
]
Dataset = Annotated[str, Parameter(help="Images to learn from, as the other commands take them."), IMAGES]
Show = Annotated[ScreenConfig, Flat]


def _examples(*commands: str) -> str:
    return "\n".join(["Examples:", "", *(f"- treehead {command}" for command in commands)])


@app.command(
    help_epilogue=_examples(
        "features photos",
        "features photos --backbone resnet18 --node layer2,layer3",
    )
)
def features(config: Annotated[FeaturesConfig, Flat] = _FEATURES, show: Show = _SHOW) -> None:
    """Run a frozen network over images and write a feature table for each node; prints each table's folder."""
    with _loading(show, "features", config.dataset, config.trunk.backbone):
        from pipeline.stages.tables import make_table, open_run

    for table in make_table(open_run(config, unlabelled=True), config.run).tables:
        result(str(table.folder))


@app.command(help_epilogue=_examples("xgb photos", "xgb photos --xgb.max-depth 6 --tune 20"))
def xgb(config: Annotated[XgbConfig, Flat] = _XGB, show: Show = _SHOW) -> None:
    """Train boosted trees on the feature table; prints the path of xgb.joblib."""
    of = config.learning.features
    with _loading(show, "xgb", of.dataset, of.trunk.backbone):
        from pipeline.stages.heads import run_xgb

    result(str(run_xgb(config).path))


@app.command(help_epilogue=_examples("inspect photos", "inspect photos --fail-on leak,conflict"))
def inspect(config: Annotated[InspectConfig, Flat] = _INSPECT, show: Show = _SHOW) -> None:
    """Say what is wrong with the images: doubles, leaks, wrong labels, odd ones; prints a table and lists of them."""
    of = config.learning.features
    with _loading(show, "inspect", of.dataset, of.trunk.backbone):
        from pipeline.stages.inspect import run_inspect

    run_inspect(config)


@app.command(
    help_epilogue=_examples(
        "compare photos",
        "compare photos --backbone resnet18 --weights imagenet --heads xgb,linear",
        "compare photos --heads linear,network --network.epochs 5",
    )
)
def compare(config: Annotated[CompareConfig, Flat] = _COMPARE, show: Show = _SHOW) -> None:
    """Hold classifiers (heads) against one another on the test images; prints a table and where the report is."""
    of = config.learning.features
    with _loading(show, "compare", of.dataset, of.trunk.backbone):
        from pipeline.stages.compare import run_compare

    run_compare(config)


@app.command(help_epilogue=_examples("curve photos", "curve photos --heads linear,xgb"))
def curve(config: Annotated[CurveConfig, Flat] = _CURVE, show: Show = _SHOW) -> None:
    """Say what more labels would bring: heads that learn from ever more images, and a forecast for twice as many."""
    of = config.learning.features
    with _loading(show, "curve", of.dataset, of.trunk.backbone):
        from pipeline.stages.curve import run_curve

    run_curve(config)


@app.command(
    help_epilogue=_examples(
        "predict artifacts/models/photos-alexnet-avgpool-1a2b3c4d/linear-5e6f7a8b/linear.joblib new/",
        "predict --imagenet photo.jpg",
    )
)
def predict(
    model: Model,
    images: Annotated[
        tuple[Place, ...], Parameter(negative=(), help="Image files, and folders to search for them.")
    ] = (),
    config: Annotated[PredictConfig, Flat] = _PREDICT,
    show: Show = _SHOW,
) -> None:
    """Classify images with a trained classifier, or, with --imagenet and no classifier, as ImageNet's classes."""
    with _loading(show, "predict", backbone=config.backbone):
        from pipeline.stages.predict import run_imagenet, run_predict

    if config.imagenet:
        run_imagenet([model, *images], config)
    else:
        run_predict(model, images, config)


@app.command(
    help_epilogue=_examples("serve artifacts/models/photos-alexnet-avgpool-1a2b3c4d/linear-5e6f7a8b/linear.joblib")
)
def serve(model: Model, config: Annotated[ServeConfig, Flat] = _SERVE, show: Show = _SHOW) -> None:
    """Serve a trained classifier: a page to try it on, and JSON for programs; prints its address."""
    with _loading(show, "serve"):
        from pipeline.serve.run import run_serve

    run_serve(model, config)


@app.command(help_epilogue=_examples("export linear.joblib --out flowers.onnx", "export xgb.joblib --precision int8"))
def export(model: Model, config: Annotated[ExportConfig, Flat] = _EXPORT, show: Show = _SHOW) -> None:
    """Write a classifier as one ONNX file, from pixels to probabilities, once it is seen to say the same; prints it."""
    with _loading(show, "export", config.dataset or ""):
        from pipeline.stages.export import run_export

    result(str(run_export(model, config)))


@app.command(help_epilogue=_examples("finetune photos", "finetune photos --regime two-phase --minutes 30"))
def finetune(dataset: Dataset, config: Annotated[FinetuneConfig, Flat] = _FINETUNE, show: Show = _SHOW) -> None:
    """Retrain the network itself; prints the path of network.safetensors, which predict takes and compare tests."""
    with _loading(show, "finetune", dataset, config.network.backbone):
        from pipeline.stages.finetune import run_finetune

    result(str(run_finetune(dataset, config).path))


@app.command(help_epilogue=_examples("pretrain photos --backbone resnet18 --minutes 60"))
def pretrain(dataset: Dataset, config: Annotated[PretrainConfig, Flat] = _PRETRAIN, show: Show = _SHOW) -> None:
    """Train a backbone from scratch and write its trunk, for --weights; prints the trunk's path."""
    with _loading(show, "pretrain", dataset, config.network.backbone):
        from pipeline.stages.pretrain import run_pretrain

    result(str(run_pretrain(dataset, config)))


@bench.command(name="features")
def bench_features(config: Annotated[BenchFeaturesConfig, Flat] = _BENCH_FEATURES) -> None:
    """Measure how near extraction is to the network alone, and that to the machine's limit; prints rates and ratios."""
    from pipeline.bench.features import run_bench_features

    run_bench_features(config)


@contextmanager
def _loading(show: ScreenConfig, command: str, dataset: str = "", backbone: str | None = None) -> Iterator[None]:
    """Refuse what can be seen at once to be wrong, and show that `command` has begun while its stage is imported."""
    screen.quiet, screen.verbose = show.quiet, show.verbose
    check_folders()
    path = place(dataset)
    looks_like_path = len(path.parts) > 1 or path.suffix in (".csv", ".parquet")
    if looks_like_path and "{" not in path.name and not path.exists():  # a range of tars is no file
        raise SourceError(f"unknown data set {dataset!r}: there is no such file or folder")
    for name in (backbone or AUTO).split(","):
        if name.strip() != AUTO:
            check_beginning(name.strip())
    with starting(f"treehead {command} {dataset}".rstrip()):
        yield


def main() -> None:
    """Run the command line and leave the process; a person's mistake is one line and exit code 2."""
    gc.set_threshold(1_000_000, 20, 100)  # imports make most of a million objects, all of them here to stay
    atexit.register(gc.freeze)  # nor need they be looked through at the end, which takes a second
    run_app(app)


def run_app(app: App) -> None:
    """Run an app's command with the process's arguments, and leave with its exit code if that is not 0.

    What went wrong on purpose is a line, and the exit code 2; a signal is 128 and its number, as shells have it.
    """
    prepare()
    arguments = as_now(sys.argv[1:])
    screen.quiet, screen.verbose, screen.options = False, False, cache(partial(_options, app, arguments))
    _show_warnings()
    try:
        with unwinding():
            app(arguments, exit_on_error=False, print_error=False, result_action="return_value")
            flush()
    except BrokenPipeError:  # whoever read the results has seen enough
        drop_output()
    except KeyboardInterrupt as error:
        fail(_GOES_ON if _goes_on(arguments) else "interrupted")
        sys.exit(128 + getattr(error, "number", signal.SIGINT))
    except (FeaturesError, ModelsError, PipelineError, CycloptsError, OSError) as error:
        fail(_in_words(error))
        sys.exit(2)


def _goes_on(arguments: Sequence[str]) -> bool:
    """Whether the command, called again, goes on from where it was interrupted."""
    command = arguments[0] if arguments else ""
    return command in GO_ON or (command == "predict" and any(each.startswith("--out") for each in arguments))


def _in_words(error: Exception) -> str:
    """What went wrong, in a line."""
    if isinstance(error, UnusedCliTokensError):
        words = ", ".join(map(repr, error.unused_tokens or ()))
        return f"{words} came, and nothing takes it: give one data set, by its place or as --dataset"
    if isinstance(error, CycloptsError):
        return " ".join(str(error).split())
    if isinstance(error, OSError):  # a file that can neither be named nor reached is the machine's matter, not a bug
        where = error.filename or "the operating system refused"
        checked = "the address, and who may use it" if "://" in str(where) else "the path and its disk"
        return f"{error.strerror or error} ({where}): check {checked}"
    return str(error)


def _options(app: App, arguments: Sequence[str]) -> frozenset[str]:
    """The options of the command that is called."""
    _, apps, _ = app.parse_commands(arguments)
    return frozenset(name for argument in apps[-1].assemble_argument_collection() for name in argument.names)


def _show_warnings() -> None:
    """Show what our packages log, as the command line says it, and of others what is no advice to programmers."""
    handler = _Warnings()
    handler.addFilter(lambda record: record.name.partition(".")[0] in OURS or record.levelno >= logging.ERROR)
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    warnings.simplefilter("ignore")


class _Warnings(logging.Handler):
    """Says what a library logs as any other warning, in a line, above a bar that may be there."""

    def emit(self, record: logging.LogRecord) -> None:
        warn(record.getMessage())
