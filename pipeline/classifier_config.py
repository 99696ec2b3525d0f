"""What the commands that use a classifier are told: predict, serve, export."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from features.stores import is_remote
from pipeline.config import Place
from pipeline.errors import ConfigError

PIXELS: Final = "pixels"
PREPARED: Final = "prepared"
FP32: Final = "fp32"


@dataclass(frozen=True, kw_only=True)
class ClassifierConfig:
    """How a saved classifier is used.

    Attributes:
        weights: The trunk's weights, where they have moved since training: imagenet, bundled or a file.
        device: auto, cpu, cuda or cuda:N.
        at_least: Name the class only of images whose probability is high enough for this share to be right, 0 to 1, as
            images show that the classifier had not learnt from.
    """

    weights: str | None = None
    device: str = "auto"
    at_least: float | None = None

    def __post_init__(self) -> None:
        if self.at_least is not None and not 0 < self.at_least < 1:
            raise ConfigError(f"--at-least {self.at_least} came: expected a share between 0 and 1, such as 0.99")


@dataclass(frozen=True, kw_only=True)
class ServeConfig(ClassifierConfig):
    """How a classifier is served.

    Attributes:
        host: Address to listen at; 0.0.0.0 for all of this machine's, which lets others use the classifier.
        port: Port to listen at; 0 takes one that is free.
        max_pixels: An image of more pixels is refused; by default those of telephones of 50 megapixels pass.
        out: Folder below which corrected images are kept, in corrected/, with a list of them that --dataset takes.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    max_pixels: int = 8192 * 6144
    out: Path = Path("artifacts")

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.port < 2**16:
            raise ConfigError(f"--port {self.port} is no port: expected 0 to {2**16 - 1:,}")
        if self.max_pixels < 1:
            raise ConfigError(f"--max-pixels {self.max_pixels} lets no image pass: give 1 or more")


@dataclass(frozen=True, kw_only=True)
class PredictConfig(ClassifierConfig):
    """How predictions are made and shown.

    Attributes:
        weights: The trunk's weights, where they have moved since training: imagenet, bundled or a file. With --imagenet
            those of the whole network: imagenet or a file.
        imagenet: Use a network of torchvision as it is: the five most likely of ImageNet's 1,000 classes.
        backbone: That network; alexnet where none is given.
        json: Print JSON: the trunk, and for each image its class and every class's probability.
        csv: Print CSV: image, class, probability, error.
        out: Parquet file to write predictions to instead, every class's probability among them. A run that was killed
            goes on.
    """

    imagenet: bool = False
    backbone: str | None = None
    json: bool = False
    csv: bool = False
    out: Place | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.backbone and not self.imagenet:
            raise ConfigError(f"--backbone {self.backbone} came without --imagenet: a classifier knows its own network")
        ways = [name for name in ("json", "csv", "out") if getattr(self, name)]
        if len(ways) > 1:
            raise ConfigError(f"--{' and --'.join(ways)} were given together: choose one")
        if self.at_least and self.imagenet:
            raise ConfigError("--at-least came with --imagenet, of whose network it is not known: give a classifier")


@dataclass(frozen=True, kw_only=True)
class ExportConfig:
    """What is exported of a classifier, and where to.

    Attributes:
        out: ONNX file to write; a folder of the same name goes beside it, with the file, a README and predict.py.
        dataset: The images that it learnt from, where they have moved since training.
        data_dir: Where the sets known by name lie, where that has changed since training.
        weights: The trunk's weights, where they have moved since training: imagenet, bundled or a file.
        input: pixels: images of any size; prepared: such as the caller has resized and cropped.
        precision: fp32; fp16: the network's weights are kept so; int8: it computes so, calibrated on training images.
            What that costs in accuracy is measured and said.
        web: Folder for a page that runs the file in the browser, to be put on any web server; needs npm, once.
    """

    out: Place = Path("model.onnx")
    dataset: str | None = None
    data_dir: Path | None = None
    weights: str | None = None
    input: Literal["pixels", "prepared"] = PIXELS
    precision: Literal["fp32", "fp16", "int8"] = FP32
    web: Place | None = None

    def __post_init__(self) -> None:
        if self.web and self.input == PREPARED:
            raise ConfigError(
                "--web came with --input prepared, but browsers do not resize as Pillow does: leave one out"
            )
        if self.web and is_remote(self.web):
            raise ConfigError(f"--web {self.web} came: expected a folder of this machine, to be copied from there")
        if self.out.suffix != ".onnx" or is_remote(self.out):
            raise ConfigError(f"--out {self.out} came: expected a file of this machine that ends in .onnx")
