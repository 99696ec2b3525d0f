"""`python -m benchmarks`: what is measured for the project's own pages, from a checkout of it."""

from typing import Annotated

from cyclopts import App, Parameter

from benchmarks.config import (
    BenchCalibrationConfig,
    BenchClusterConfig,
    BenchCurveConfig,
    BenchExportConfig,
    BenchFewConfig,
    BenchFinetuneConfig,
    BenchHeadsConfig,
    BenchInspectConfig,
    BenchScaleConfig,
    BenchServeConfig,
    BenchTrunksConfig,
    BenchVerdictConfig,
    BenchWeightsConfig,
)
from pipeline.cli import Flat, Model, run_app
from pipeline.config import Place

app = App(name="benchmarks", help="Measure this machine; every figure is a ratio of one run.")

_HEADS, _FINETUNE = BenchHeadsConfig(), BenchFinetuneConfig()
_WEIGHTS, _TRUNKS, _VERDICT = BenchWeightsConfig(), BenchTrunksConfig(), BenchVerdictConfig()
_CALIBRATION, _CLUSTER = BenchCalibrationConfig(), BenchClusterConfig()
_CURVE, _FEW, _INSPECT = BenchCurveConfig(), BenchFewConfig(), BenchInspectConfig()
_SCALE, _SERVE, _EXPORT = BenchScaleConfig(), BenchServeConfig(), BenchExportConfig()


@app.command
def heads(config: Annotated[BenchHeadsConfig, Flat] = _HEADS) -> None:
    """Measure our heads and other learners on the same rows, and the trees' memory; prints tables with ratios."""
    from benchmarks.heads import run_bench_heads

    run_bench_heads(config)


@app.command
def finetune(config: Annotated[BenchFinetuneConfig, Flat] = _FINETUNE) -> None:
    """Measure how near training comes to its steps alone, on images that need no reading; prints rates and a ratio."""
    from benchmarks.finetune import run_bench_finetune

    run_bench_finetune(config)


@app.command
def cluster(config: Annotated[BenchClusterConfig, Flat] = _CLUSTER) -> None:
    """Measure what two one-core nodes of a Ray cluster make of this machine's rate, and kill whatever can be killed."""
    from benchmarks.cluster import run_bench_cluster

    run_bench_cluster(config)


Datasets = Annotated[
    list[str],
    Parameter(name="--dataset", negative=(), help="Image sets, as --dataset of treehead's commands takes them."),
]


@app.command
def weights(datasets: Datasets, config: Annotated[BenchWeightsConfig, Flat] = _WEIGHTS) -> None:
    """Measure what a network's weights are worth: a linear probe and trees on their features, on several image sets."""
    from benchmarks.weights import run_bench_weights

    run_bench_weights(datasets, config)


@app.command
def trunks(datasets: Datasets, config: Annotated[BenchTrunksConfig, Flat] = _TRUNKS) -> None:
    """Measure what AlexNet and EfficientNet-Lite0 are worth, alone and chosen by validation, on several image sets."""
    from benchmarks.trunks import run_bench_trunks

    run_bench_trunks(datasets, config)


@app.command
def calibration(datasets: Datasets, config: Annotated[BenchCalibrationConfig, Flat] = _CALIBRATION) -> None:
    """Measure what each head's probabilities are worth on test images, on several image sets."""
    from benchmarks.calibration import run_bench_calibration

    run_bench_calibration(datasets, config)


@app.command
def few(datasets: Datasets, config: Annotated[BenchFewConfig, Flat] = _FEW) -> None:
    """Measure what heads make of few images, beside scikit-learn's logistic regression."""
    from benchmarks.few import run_bench_few

    run_bench_few(datasets, config)


@app.command
def curve(datasets: Datasets, config: Annotated[BenchCurveConfig, Flat] = _CURVE) -> None:
    """Pretend that half of the images are all: whether what curves foretell of twice as many is what comes of them."""
    from benchmarks.curve import run_bench_curve

    run_bench_curve(datasets, config)


@app.command
def inspect(datasets: Datasets, config: Annotated[BenchInspectConfig, Flat] = _INSPECT) -> None:
    """Measure how much is found of what is planted in several image sets: doubles, bursts and wrong labels."""
    from benchmarks.inspect import run_bench_inspect

    run_bench_inspect(datasets, config)


@app.command
def scale(config: Annotated[BenchScaleConfig, Flat] = _SCALE) -> None:
    """Measure what a million keys and a million rows cost on this machine: seconds, memory, and how both grow."""
    from benchmarks.scale import run_bench_scale

    run_bench_scale(config)


@app.command
def serve(
    model: Model,
    photos: Annotated[Place, Parameter(help="A folder of images to ask for.")],
    config: Annotated[BenchServeConfig, Flat] = _SERVE,
) -> None:
    """Measure what treehead serve takes for one image and gives to many clients, as ratios to the network alone."""
    from benchmarks.serve import run_bench_serve

    run_bench_serve(model, photos, config)


@app.command
def export(datasets: Datasets, config: Annotated[BenchExportConfig, Flat] = _EXPORT) -> None:
    """Hold exports against classifiers, of every head on several trunks and image sets, some wrong on purpose."""
    from benchmarks.export import run_bench_export

    run_bench_export(datasets, config)


@app.command
def verdict(config: Annotated[BenchVerdictConfig, Flat] = _VERDICT) -> None:
    """Simulate comparisons of contenders whose skill is known: how often the verdict is wrong, and what it finds."""
    from benchmarks.verdict import run_bench_verdict

    run_bench_verdict(config)


if __name__ == "__main__":
    run_app(app)
