from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import treehead
from features.errors import SourceError, TrunkError


def test_images_give_what_their_rows_in_the_table_give(example_folder: Path) -> None:
    classifier = treehead.load_classifier(example_folder / "linear.joblib")
    rows = treehead.open_table(example_folder / "table").read("test")
    photos = [example_folder / "photos" / key for key in rows.keys]
    assert classifier.predict_proba_images(photos) == pytest.approx(classifier.predict_proba(rows.x), abs=1e-5)
    assert classifier.predict_images(photos).tolist() == classifier.predict(rows.x).tolist()


def test_a_path_its_image_and_its_pixels_are_one(example_folder: Path) -> None:
    classifier = treehead.load_classifier(example_folder / "knn.joblib")
    path = example_folder / "photos/oak/0003.jpg"
    image = Image.open(path)
    one, *others = classifier.predict_proba_images([str(path), image, np.asarray(image)])
    for other in others:
        assert other == pytest.approx(one)


def test_no_images_have_no_classes(example_folder: Path) -> None:
    classifier = treehead.load_classifier(example_folder / "linear.joblib")
    assert classifier.predict_images([]).shape == (0,)
    assert classifier.predict_proba_images([]).shape == (0, 2)


def test_an_image_that_cannot_be_read_is_named(example_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "oak.jpg").write_text("no image")
    classifier = treehead.load_classifier(example_folder / "linear.joblib")
    with pytest.raises(SourceError, match=r"image 0 \(.*oak\.jpg\) has no features: not an image"):
        classifier.predict_images([tmp_path / "oak.jpg"])


def test_weights_that_are_gone_are_named(example_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    classifier = treehead.load_classifier(example_folder / "linear.joblib")
    monkeypatch.setitem(classifier.card.__dict__, "weights", str(tmp_path / "gone.safetensors"))
    with pytest.raises(TrunkError, match=r"gone\.safetensors"):
        classifier.predict_images([example_folder / "photos/oak/0001.jpg"])
