from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from features.sources.registry import open_source
from features.squares import decode_once
from features.table.joined import JoinedTable
from features.table.table import FeatureTable
from models.columns.workspace import Workspace
from models.networks.examples import FeatureExamples, ImageExamples
from models.networks.settings import WHOLE, Views
from tests.conftest import Run, TinyBackbone


@pytest.mark.parametrize("size", [16, 11])  # with 11 what is cut off is an odd number of pixels
def test_images_seen_as_they_are_are_what_prediction_sees(split_photos: Path, size: int) -> None:
    source = open_source(str(split_photos))
    recipe = TinyBackbone.recipe.at(size)
    squares = decode_once(source, recipe, split_photos.parent, max_bad=0, on_images=lambda _: None)
    examples = ImageExamples(squares, WHOLE)
    kept = examples.read("train", np.array([3, 1, 30]))
    assert torch.equal(examples.seen(kept, 0.5, torch.Generator()), examples.whole(kept))
    assert not torch.equal(ImageExamples(squares, Views()).seen(kept, 0.5, torch.Generator()), examples.whole(kept))


def test_the_rows_of_a_table(treehead: Run, split_photos: Path, workspace: Workspace) -> None:
    small = ("--backbone", "squeezenet1_1", "--weights", "random", "--image-size", "32", "--device", "cpu")
    assert treehead("features", "--dataset", split_photos, *small) == 0
    (folder,) = Path("artifacts/features").iterdir()
    table = JoinedTable([FeatureTable.open(folder)])
    examples = FeatureExamples(table, workspace)
    for split in ("train", "validation"):
        rows, numbers = table.read(split), np.array([7, 0, 7])
        assert examples.labels(split).tolist() == rows.y.tolist()
        kept = examples.read(split, numbers)
        assert torch.equal(examples.seen(kept, 0.0, torch.Generator()), torch.from_numpy(rows.x[numbers]))
    assert examples.kind == "rows of 512 features"
