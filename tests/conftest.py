"""Small images and a small trunk that the tests make themselves."""

from __future__ import annotations

import io
import shutil
import subprocess
import sysconfig
import venv
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from cyclopts import App
from PIL import Image
from torch import nn
from torchvision.models.feature_extraction import create_feature_extractor

from benchmarks import __main__ as benchmarks
from features.sources.files import read_file
from features.trunk.backbone import Backbone
from features.trunk.engine import ONNXRUNTIME, TORCH, onnx_forward
from features.trunk.loaded import freeze
from features.trunk.recipe import Recipe
from features.trunk.spec import TrunkSpec
from features.trunk.trunk import Trunk
from models.columns.workspace import Workspace
from pipeline import cli

if TYPE_CHECKING:
    from playwright.sync_api import Browser

ROOT = Path(__file__).parent.parent
CPU = torch.device("cpu")
COLOURS = {"red": (200, 40, 40), "green": (40, 200, 40), "blue": (40, 40, 200)}

Run = Callable[..., int]

SMALL = ("--backbone", "resnet18", "--image-size", "32", "--xgb.rounds", "8")
"""Options of commands that are to be quick."""

EXACT = ("--precision", "fp32")
"""Options of tables to export, made as the file computes, on CPUs that would take less as well."""

collect_ignore = ["golden"]
"""Scripts that made what lies beside them; looking for examples in docstrings would import them."""


def write_images(folder: Path, colour: str, count: int, start: int = 0) -> None:
    """Write `count` noisy images of 24 × 20 pixels in one colour, each different."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(start, start + count):
        noise = np.random.default_rng(number).integers(-35, 35, (20, 24, 3))
        pixels = np.clip(np.asarray(COLOURS[colour]) + noise, 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{number:03d}.png")


def encoded(image: Image.Image, kind: str = "png", **options: Any) -> bytes:
    """An image as a file of a format, by Pillow's name and its options."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder of class folders without splits, 40 images a class."""
    for colour in COLOURS:
        write_images(tmp_path / "photos" / colour, colour, 40)
    return tmp_path / "photos"


@pytest.fixture
def split_photos(tmp_path: Path) -> Path:
    """A folder with train, val and test, the file names of each class distinct."""
    for offset, (split, count) in enumerate({"train": 12, "val": 4, "test": 6}.items()):
        for colour in COLOURS:
            write_images(tmp_path / "split photos" / split / colour, colour, count, start=100 * offset)
    return tmp_path / "split photos"


def unreadable(end: str) -> Callable[[Path], bytes]:
    """`read_file`, but files whose path ends so cannot be read."""

    def read(path: Path) -> bytes:
        if str(path).endswith(end):
            raise PermissionError(13, "Permission denied", str(path))
        return read_file(path)

    return read


class TinyNetwork(nn.Module):
    """A convolution with batch norm, (n, 3, 16, 16) to 2,048 features at `early`, pooled to 128 at any other node."""

    def __init__(self, *nodes: str) -> None:
        super().__init__()
        self.nodes = nodes
        self.convolution = nn.Conv2d(3, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.pool = nn.AdaptiveAvgPool2d(4)

    def forward(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        early = self.norm(self.convolution(images))
        return {node: early if node == "early" else self.pool(early.relu()) for node in self.nodes}


class TinyBackbone(Backbone):
    """Two convolutions without norms, as AlexNet has them, for images of 16 px."""

    name = "tiny"
    node = "pool"
    depths = ("convolutions.1", "pool")
    smallest = 8
    recipe = Recipe(image_size=16, resize=18, interpolation="bilinear", mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))

    def __init__(self, seed: int = 0) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            layers = (nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(inplace=True), nn.Conv2d(8, 8, 3, stride=2), nn.ReLU())
            convolutions = nn.Sequential(*layers)
        self.network = nn.Sequential(OrderedDict(convolutions=convolutions, pool=nn.AdaptiveAvgPool2d(4)))

    def cut(self, nodes: Sequence[str]) -> nn.Module:
        return create_feature_extractor(self.network, list(nodes))

    def published(self) -> tuple[dict[str, torch.Tensor], Recipe]:
        raise NotImplementedError


def make_tiny_trunk(node: str = "pool", *others: str, engine: str = TORCH) -> Trunk:
    nodes = (node, *others)
    torch.manual_seed(0)
    module = freeze(TinyNetwork(*nodes))
    forward = onnx_forward(module, nodes, 16) if engine == ONNXRUNTIME else None
    assert engine == TORCH or forward
    specs = [replace(tiny_spec(name), engine=forward.name if forward else TORCH) for name in nodes]
    return Trunk(specs, module, CPU, forward=forward)


def tiny_spec(node: str) -> TrunkSpec:
    return TrunkSpec(
        backbone="tiny",
        weights="random",
        weights_sha256="0" * 64,
        seed=0,
        node=node,
        pool="none",
        image_size=16,
        resize=16,
        interpolation="bilinear",
        mean=(0.5, 0.5, 0.5),
        std=(0.25, 0.25, 0.25),
    )


@pytest.fixture(autouse=True)
def no_cached_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What torchvision has downloaded on this machine shall not decide which weights a test gets."""
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))


@pytest.fixture(autouse=True)
def in_little_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few rows are learnt from in two folds, and label curves are of two draws, which takes half the time of five."""
    monkeypatch.setattr("models.columns.workspace.FOLDS", 2)
    monkeypatch.setattr("pipeline.stages.curve.DRAWS", 2)


@pytest.fixture(params=[TORCH, ONNXRUNTIME])
def engine(request: pytest.FixtureRequest) -> str:
    """Each of the two in turn."""
    return str(request.param)


@pytest.fixture
def tiny_trunk() -> Trunk:
    return make_tiny_trunk()


@pytest.fixture
def workspace() -> Iterator[Workspace]:
    """Where heads put rows aside."""
    with Workspace() as workspace:
        yield workspace


@pytest.fixture
def treehead(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """The command line, called in this process in an empty folder; returns the exit code."""
    return called(cli.app, monkeypatch, tmp_path)


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """`python -m benchmarks`, called as `treehead` is."""
    return called(benchmarks.app, monkeypatch, tmp_path)


def called(app: App, monkeypatch: pytest.MonkeyPatch, folder: Path) -> Run:
    """Calls the commands of `app` in `folder`."""
    monkeypatch.chdir(folder)

    def run(*arguments: object) -> int:
        monkeypatch.setattr("sys.argv", ["treehead", *map(str, arguments)])
        try:
            cli.run_app(app)
        except SystemExit as stop:
            return int(stop.code or 0)
        return 0

    return run


BEFORE = (
    *("!", "layout: ", "left out: ", "split ", "train ", "validation", "test", "features: "),
    *("folds: ", "near-doubles: ", "label curve: ", "  "),
)
"""How lines begin that may come before an error."""


def refused(run: Run, capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """The one line of a command that must fail with exit code 2; warnings and what images came may stand before it."""
    capsys.readouterr()
    assert run(*arguments) == 2
    captured = capsys.readouterr()
    lines = [line for line in captured.err.splitlines() if not line.startswith(BEFORE)]
    assert captured.out == ""
    assert len(lines) == 1
    assert lines[0].startswith("treehead: ")
    return lines[0]


@dataclass(frozen=True, kw_only=True)
class Installed:
    """An environment that has treehead from its `wheel`, in the folder `site`, and all else from this one."""

    wheel: Path
    site: Path
    python: Path

    def run(self, *command: object, folder: Path) -> str:
        """What the environment's Python prints in `folder`; neither that nor this checkout is on its path."""
        program = [str(self.python), "-I", *map(str, command)]
        return subprocess.run(program, cwd=folder, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """The wheel of this checkout, built from a copy so that no earlier build is in it, and installed; takes a while."""
    folder = tmp_path_factory.mktemp("installed")
    for part in ("treehead", "features", "models", "pipeline", "benchmarks", "tests"):
        shutil.copytree(ROOT / part, folder / "source" / part, ignore=shutil.ignore_patterns("__pycache__"))
    for path in filter(Path.is_file, ROOT.iterdir()):
        shutil.copy(path, folder / "source")
    venv.create(folder / "environment", symlinks=True, with_pip=True)
    (site,) = (folder / "environment" / "lib").glob("python3*/site-packages")
    (site / "others.pth").write_text(sysconfig.get_path("purelib"))  # an editable install of treehead is not in there
    python = folder / "environment" / "bin" / "python"
    pip = [str(python), "-I", "-m", "pip", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "wheel", "--no-deps", "--wheel-dir", folder, folder / "source"], check=True)
    (wheel,) = folder.glob("treehead-*.whl")
    subprocess.run([*pip, "install", "--no-deps", wheel], check=True)
    return Installed(wheel=wheel, site=site, python=python)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium without a window, no longer than it is needed: asyncio.run fails beside it."""
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install playwright")
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("there is no chromium on this machine")
    with api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture
def compared(treehead: Run, split_photos: Path) -> Path:
    """The output folder of a comparison on `split_photos`."""
    assert treehead("compare", "--dataset", split_photos, *SMALL) == 0
    return Path("artifacts")


@pytest.fixture
def model(compared: Path) -> Path:
    """The trees of that comparison."""
    return next(compared.glob("models/*/xgb-*/xgb.joblib"))
