from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from xgboost import XGBClassifier

from features.errors import SourceError, TrunkError
from features.frozen_trunk import FrozenTrunk


def trunk(**options: Any) -> FrozenTrunk:
    return FrozenTrunk("resnet18", **{"image_size": 48, "precision": "fp32", **options})


@pytest.fixture
def labelled(photos: Path) -> tuple[list[str], list[int]]:
    paths = sorted(photos.glob("*/00*.png"))
    return [str(path) for path in paths], [["blue", "green", "red"].index(path.parent.name) for path in paths]


def test_a_pipeline_learns_from_paths(labelled: tuple[list[str], list[int]]) -> None:
    paths, y = labelled
    model = make_pipeline(trunk(), XGBClassifier(n_estimators=5)).fit(paths, y)
    assert model.score(paths, y) > 0.9


def test_paths_images_and_arrays_give_the_same(labelled: tuple[list[str], list[int]]) -> None:
    paths = labelled[0][:5]
    images = [Image.open(path) for path in paths]
    arrays = [np.array(image) for image in images]
    fitted = trunk().fit(paths)
    expected = fitted.transform(paths)
    assert expected.shape == (5, fitted.n_features_out_) == (5, 512)
    assert expected.dtype == np.float32
    ways: list[Any] = [images, arrays, np.stack(arrays), [Path(path) for path in paths]]
    for same in ways:
        assert np.array_equal(fitted.transform(same), expected)


def test_turned_and_mirrored_images_are_what_they_look_like(photos: Path, tmp_path: Path) -> None:
    image = Image.open(photos / "red/000.png")
    exif = image.getexif()
    exif[0x0112] = 6
    image.save(tmp_path / "turned.png", exif=exif)
    turned = Image.open(tmp_path / "turned.png")
    pixels = np.array(image)
    fitted = trunk().fit([])
    same = fitted.transform([tmp_path / "turned.png", turned, np.rot90(pixels, -1), image.rotate(-90, expand=True)])
    assert (same == same[0]).all()


def test_a_series_counts_by_position(labelled: tuple[list[str], list[int]]) -> None:
    paths = pd.Series(labelled[0][:3], index=[7, 3, 5])
    fitted = trunk().fit(paths)
    assert np.array_equal(fitted.transform(paths), fitted.transform(paths.tolist()))
    with pytest.raises(SourceError, match=r"image 2 \(absent.png\) has no features"):
        fitted.transform(pd.Series([*paths[:2], "absent.png"], index=[7, 3, 5]))


def test_several_nodes_stand_side_by_side(labelled: tuple[list[str], list[int]]) -> None:
    paths = labelled[0][:3]
    both = trunk(node="layer1,flatten", pool="avg").fit(paths)
    assert both.transform(paths).shape == (3, 64 + 512)
    assert both.get_feature_names_out()[[0, 63, 64]].tolist() == ["layer1_0", "layer1_63", "flatten_0"]
    assert np.array_equal(both.transform(paths)[:, 64:], trunk().fit(paths).transform(paths))


def test_it_clones_and_searches(labelled: tuple[list[str], list[int]]) -> None:
    paths, y = labelled
    assert clone(trunk(seed=3)).get_params() == trunk(seed=3).get_params()
    search = GridSearchCV(
        make_pipeline(trunk(), LogisticRegression()), {"frozentrunk__node": ["layer1", "flatten"]}, cv=2
    )
    assert search.fit(paths, y).best_score_ > 0.5


def test_a_pickle_has_no_weights_unless_asked(labelled: tuple[list[str], list[int]], tmp_path: Path) -> None:
    paths = labelled[0][:3]
    for keep in (False, True):
        fitted = trunk(keep_weights=keep).fit(paths)
        content = pickle.dumps(fitted)
        assert (len(content) > 10**6) is keep
        assert np.array_equal(pickle.loads(content).transform(paths), fitted.transform(paths))
        joblib.dump(fitted, tmp_path / "trunk.joblib")
        assert np.array_equal(joblib.load(tmp_path / "trunk.joblib").transform(paths), fitted.transform(paths))


def test_weights_that_have_changed_since(tmp_path: Path) -> None:
    import torch
    from torchvision.models import resnet18

    torch.save(resnet18().state_dict(), tmp_path / "mine.pth")
    content = pickle.dumps(trunk(weights=str(tmp_path / "mine.pth")).fit([]))
    torch.save(resnet18().state_dict(), tmp_path / "mine.pth")
    with pytest.raises(TrunkError, match=r"are not the ones"):
        pickle.loads(content).transform([])


@pytest.mark.parametrize(
    ("image", "message"),
    [
        ("absent.png", r"image 1 \(absent.png\) has no features: unreadable: No such file or directory; leave it out"),
        (np.zeros((4, 4)), r"pixels of shape \(4, 4\) and type float64 came: expected \(h, w\) or \(h, w, 3\) uint8"),
        (np.zeros((0, 5), np.uint8), r"pixels of shape \(0, 5\) and type uint8 came"),
        (7, r"int is no image: expected a path, a PIL image or an array of uint8"),
    ],
)
def test_what_is_no_image(image: Any, message: str, labelled: tuple[list[str], list[int]]) -> None:
    fitted = trunk().fit([])
    with pytest.raises(SourceError, match=message):
        fitted.transform([labelled[0][0], image])
