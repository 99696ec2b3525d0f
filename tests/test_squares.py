from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from features.errors import SourceError, TableError
from features.sources.decode import decode
from features.sources.options import SourceOptions
from features.sources.registry import open_source
from features.squares import Squares, decode_once
from features.trunk.recipe import to_square
from tests.conftest import TinyBackbone, unreadable

RECIPE = TinyBackbone.recipe


def decoded(folder: Path, *, max_bad: float = 0.5, retry_bad: bool = False) -> Squares:
    source = open_source(str(folder))
    out = folder.parent / "out"
    return decode_once(source, RECIPE, out, max_bad=max_bad, retry_bad=retry_bad, on_images=lambda _: None)


def test_squares_are_prepared_as_for_extraction(split_photos: Path) -> None:
    squares = decoded(split_photos)
    place = int(squares.places("train")[5])
    image = torch.from_numpy(decode((split_photos / squares.items["key"][place]).read_bytes())).permute(2, 0, 1)
    expected = to_square(image, resize=18, size=18, interpolation=RECIPE.interpolation)
    assert torch.equal(squares.read(np.array([place]))[0], expected)


def test_labels_stand_with_their_images(split_photos: Path) -> None:
    squares = decoded(split_photos)
    places = squares.places("train")
    brightest = squares.read(places).float().mean((2, 3)).argmax(1)  # red, green, blue; classes are sorted by name
    assert squares.labels(places).tolist() == [(2, 1, 0)[channel] for channel in brightest]
    assert (len(places), len(squares.places("validation"))) == (36, 12)


def test_test_images_are_not_among_them(split_photos: Path) -> None:
    squares = decoded(split_photos)
    assert set(squares.items["split"]) == {"train", "validation"}
    assert len(squares.pixels) == 48


def test_images_are_decoded_once(split_photos: Path) -> None:
    first = decoded(split_photos)
    source = open_source(str(split_photos))
    unread = replace(source, read=lambda row: pytest.fail(f"row {row} was read again"))
    again = decode_once(unread, RECIPE, split_photos.parent / "out", max_bad=0, on_images=lambda _: None)
    assert np.array_equal(first.pixels, again.pixels)


def test_another_size_is_another_file(split_photos: Path) -> None:
    first = decoded(split_photos)
    source = open_source(str(split_photos))
    other = decode_once(source, RECIPE.at(24), split_photos.parent / "out", max_bad=0, on_images=lambda _: None)
    assert first.folder != other.folder
    assert other.pixels.shape == (48, 27, 27, 3)


def test_what_cannot_be_read_is_listed_and_never_used(split_photos: Path) -> None:
    (split_photos / "train/red/000.png").write_bytes(b"")
    (split_photos / "train/red/001.png").write_bytes(b"no image")
    squares = decoded(split_photos)
    assert dict(zip(squares.ledger["key"], squares.ledger["reason"], strict=True)) == {
        "train/red/000.png": "empty file",
        "train/red/001.png": "not an image",
    }
    assert len(squares.places("train")) == 34
    assert bool((squares.read(squares.places("train")).flatten(1).amax(1) > 0).all())


def test_too_many_that_cannot_be_read(split_photos: Path) -> None:
    (split_photos / "train/red/000.png").write_bytes(b"")
    with pytest.raises(SourceError, match=r"1 of 48 images could not be read, more than `max_bad=0.01` allows"):
        decoded(split_photos, max_bad=0.01)
    assert len(decoded(split_photos, max_bad=0.1).ledger) == 1


def test_what_could_not_be_read_is_tried_again_when_asked(split_photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as context:
        context.setattr("features.sources.folders.read_file", unreadable("train/red/000.png"))
        assert list(decoded(split_photos).ledger["key"]) == ["train/red/000.png"]
    assert len(decoded(split_photos).ledger) == 1
    squares = decoded(split_photos, retry_bad=True)
    assert (len(squares.ledger), len(squares.places("train"))) == (0, 36)
    written = (squares.folder / "squares.bin").stat().st_mtime_ns
    decoded(split_photos, retry_bad=True)
    assert (squares.folder / "squares.bin").stat().st_mtime_ns == written, "nothing is left to try"


def test_a_class_of_which_nothing_is_left(split_photos: Path) -> None:
    for path in split_photos.glob("train/red/*.png"):
        path.write_bytes(b"")
    with pytest.raises(SourceError, match=r"has no readable training images of red: see .*errors.parquet, and mend"):
        decoded(split_photos)


def test_a_damaged_ledger(split_photos: Path) -> None:
    (decoded(split_photos).folder / "errors.parquet").write_bytes(b"PAR1")
    with pytest.raises(TableError, match=r"errors.parquet is damaged .*: delete it and manifest.json beside it"):
        decoded(split_photos)


def test_a_split_of_which_nothing_is_left(split_photos: Path) -> None:
    for path in split_photos.glob("val/*/*.png"):
        path.write_bytes(b"")
    with pytest.raises(SourceError, match=r"has no readable validation images: see .*errors.parquet, and mend or add"):
        decoded(split_photos)


def test_a_file_cut_short(split_photos: Path) -> None:
    path = decoded(split_photos).folder / "squares.bin"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(TableError, match=r"squares.bin is cut short or missing: delete .* and run again"):
        decoded(split_photos)


def test_of_two_runs_at_once_one_decodes_and_the_other_finds_it_done(split_photos: Path) -> None:
    done = decoded(split_photos).folder / "squares.bin"
    done.with_name("manifest.json").unlink()
    before = done.stat().st_ino
    with ThreadPoolExecutor(2) as pool:
        both = [pool.submit(decoded, split_photos) for _ in range(2)]
    assert len({each.result().pixels.tobytes() for each in both}) == 1
    assert done.stat().st_ino != before


def test_digits_become_colour_squares(tmp_path: Path) -> None:
    source = open_source("digits", SourceOptions(train_limit=20))
    squares = decode_once(source, RECIPE, tmp_path, max_bad=0, on_images=lambda _: None)
    images = squares.read(squares.places("train"))
    assert images.shape[1:] == (3, 18, 18)
    assert torch.equal(images[:, 0], images[:, 2])
