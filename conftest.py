"""Where the examples of docstrings and of docs/python.md run: a folder of photographs and what treehead made of them.

    photos/oak/0001.jpg …           24 images, and as many in photos/beech, 64 × 48 px of noise about a colour
    table/, earlier-table/          their features at two nodes of a small random network
    linear.joblib, knn.joblib       classifiers of the features in table/, each with its card
    comparison/                     the two held against one another, with the report

Examples may count on these, and read them only.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # read when torch and XGBoost load: their threads else wait busily
if workers := os.environ.get("PYTEST_XDIST_WORKER_COUNT"):  # tests beside one another share the cores
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // int(workers))))

COLOURS = {"oak": (90, 120, 40), "beech": (150, 90, 60)}

SETTINGS = "--dataset photos --backbone squeezenet1_1 --weights random --image-size 32 --pool avg --device cpu"


@pytest.fixture(scope="session")
def example_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the module's docstring tells of; its commands take a few seconds."""
    folder = tmp_path_factory.mktemp("examples")
    for name, colour in COLOURS.items():
        _write_photos(folder / "photos" / name, colour)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        _treehead(f"features {SETTINGS} --node features.7,features")
        _treehead(f"compare {SETTINGS} --heads linear,knn")
    made = folder / "artifacts"
    for path in made.glob("models/*/*/*"):
        shutil.move(path, folder)
    for pattern, name in {"features/*.7-*": "earlier-table", "features/*": "table", "compare/*": "comparison"}.items():
        (found,) = made.glob(pattern)
        found.rename(folder / name)
    return folder


@pytest.fixture(autouse=True)
def beside_the_examples(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Examples in docstrings name files as a person would who started Python in that folder."""
    if isinstance(request.node, pytest.DoctestItem):
        monkeypatch.chdir(request.getfixturevalue("example_folder"))


def _write_photos(folder: Path, colour: tuple[int, int, int]) -> None:
    folder.mkdir(parents=True)
    for number in range(1, 25):
        noise = np.random.default_rng(number).integers(-60, 60, (48, 64, 3))
        Image.fromarray(np.clip(colour + noise, 0, 255).astype(np.uint8)).save(folder / f"{number:04d}.jpg")


def _treehead(command: str) -> None:
    from pipeline.cli import app

    app(command.split(), result_action="return_value")
