"""Near-doubles: searches, aligned thumbnails, pairs with a threshold of their own, clusters."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from features.errors import FeaturesError
from features.looks import SIDE, thumbnail
from features.near import search
from features.near.align import residuals
from features.near.changes import CHANGES, SAMPLE, changed, sampled
from features.near.clusters import clusters
from features.near.pairs import Images, NearDoubles, near_doubles
from features.near.search import Directions, Searcher, neighbours

Pixels = NDArray[np.uint8]


def pictures(count: int, seed: int = 0, size: int = 60) -> list[Pixels]:
    """Smooth colourful pictures, each different."""
    random = np.random.default_rng(seed)
    coarse = random.integers(0, 256, (count, 7, 7, 3)).astype(np.uint8)
    return [np.array(Image.fromarray(each).resize((size, size), Image.Resampling.BICUBIC)) for each in coarse]


def looks(images: list[Pixels]) -> Images:
    """Features that a mirror, margins and light change a little: mean colours of a coarse, symmetrical grid."""
    small = [np.asarray(Image.fromarray(each).resize((8, 8), Image.Resampling.BOX), np.float32) for each in images]
    features = np.stack([(each + each[:, ::-1]).ravel() / 2 for each in small])
    thumbnails = [thumbnail(torch.from_numpy(each.copy()).permute(2, 0, 1)) for each in images]
    return Images(features=features.astype(np.float16), thumbnails=np.stack(thumbnails))


def found_in(images: list[Pixels], sample: int = 30) -> NearDoubles:
    random, originals = np.random.default_rng(5), np.arange(sample)
    selves = [self for original in originals for self in changed(images[original], random)]
    return near_doubles(looks(images), originals, looks(selves))


def pairs_of(found: NearDoubles) -> set[tuple[int, int]]:
    return set(zip(found.first.tolist(), found.second.tolist(), strict=True))


def brute(x: NDArray[np.float16], k: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    distances = ((x[:, None].astype(np.float64) - x[None]) ** 2).sum(2) / 2
    np.fill_diagonal(distances, np.inf)
    order = np.argsort(distances, axis=1, kind="stable")[:, :k]
    return order, np.take_along_axis(distances, order, axis=1)


def test_neighbours_are_those_of_brute_force(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "BLOCK", 7)
    x = np.random.default_rng(0).normal(size=(50, 16)).astype(np.float16)
    told: list[int] = []
    indices, distances = neighbours(x, 5, told.append)
    expected, exact = brute(Directions(x).of(x), 5)
    np.testing.assert_array_equal(indices, expected)
    np.testing.assert_allclose(distances, exact, atol=1e-6)
    assert sum(told) == 50


def test_distances_are_symmetric() -> None:
    x = np.random.default_rng(1).normal(size=(12, 6)).astype(np.float32)
    indices, distances = neighbours(x, 11)
    full = np.zeros((12, 12))
    np.put_along_axis(full, indices, distances, axis=1)
    np.testing.assert_allclose(full, full.T, atol=1e-6)


def test_long_rows_keep_their_neighbours() -> None:
    x = np.random.default_rng(2).normal(size=(40, 2000)).astype(np.float16)
    x[1] = x[0] + np.float16(0.1)
    assert neighbours(x, 1)[0][0, 0] == 1


def test_an_index_finds_what_the_product_does(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("faiss")
    random = np.random.default_rng(3)
    x = random.normal(size=(200, 24)).astype(np.float32)
    x[100:] = x[:100] + 0.01 * random.normal(size=(100, 24))
    exact = neighbours(x, 3)
    monkeypatch.setattr(search, "EXACT_ROWS", 10)
    indices, distances = neighbours(x, 3)
    np.testing.assert_array_equal(indices[:, 0], np.r_[100:200, 0:100])
    np.testing.assert_allclose(distances[:, 0], exact[1][:, 0], atol=5e-3)
    assert (indices != np.arange(200)[:, None]).all()


def test_many_rows_without_an_index_say_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "EXACT_ROWS", 10)
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(FeaturesError, match=r"^11 images came, .* pip install 'treehead\[near\]'$"):
        Searcher(np.zeros((11, 4), np.float16))


@pytest.mark.parametrize(("rows", "columns"), [(1, 0), (2, 1), (4, 3)])
def test_few_rows_have_few_neighbours(rows: int, columns: int) -> None:
    indices, distances = neighbours(np.eye(4, dtype=np.float16)[:rows], 8)
    assert indices.shape == distances.shape == (rows, columns)


def test_rows_that_are_all_the_same_are_at_no_distance() -> None:
    indices, distances = neighbours(np.full((9, 5), 3, np.float16), 4)
    assert (distances == 0).all()
    assert (indices != np.arange(9)[:, None]).all()


def test_a_thumbnail_holds_the_whole_image() -> None:
    pixels = torch.zeros(3, 30, 90, dtype=torch.uint8)
    pixels[:, :, :45] = 200
    grey = thumbnail(pixels)
    assert grey.shape == (SIDE, SIDE)
    assert grey.dtype == np.uint8
    assert (grey[:, : SIDE // 2 - 1] > 190).all()
    assert (grey[:, SIDE // 2 + 1 :] < 10).all()
    assert thumbnail(pixels[:1]).tolist() == grey.tolist()


def test_alignment_undoes_margins_and_light() -> None:
    image = pictures(1, size=100)[0]
    whole, part, dark = looks([image, image[4:94, 8:98], (image * 0.8).astype(np.uint8)]).thumbnails
    others = torch.from_numpy(np.stack([whole, part, dark]))
    first = torch.from_numpy(whole).expand(3, -1, -1)
    moved = residuals(first, others)
    still = 1 - np.corrcoef(whole.ravel(), part.ravel())[0, 1]
    assert moved[0] < 1e-5
    assert moved[1] < 0.1 * still
    assert moved[2] < 1e-3


def test_blank_thumbnails_are_alike_and_like_no_other() -> None:
    blank, grey = torch.zeros(1, SIDE, SIDE), torch.full((1, SIDE, SIDE), 9.0)
    picture = torch.from_numpy(looks(pictures(1)).thumbnails)
    assert residuals(blank, grey).tolist() == [0]
    assert residuals(blank, picture).item() > 0.9
    assert residuals(picture, blank).item() > 0.9


@pytest.mark.parametrize("name", CHANGES)
def test_changed_images_are_found(name: str) -> None:
    images = pictures(150)
    random = np.random.default_rng(7)
    copies = [np.array(CHANGES[name](Image.fromarray(images[number]), random)) for number in range(100, 120)]
    found = found_in(images + copies)
    planted = {(number, number + 50) for number in range(100, 120)}
    assert len(pairs_of(found) & planted) >= 18  # 95 % of twenty, less one by chance
    assert pairs_of(found) <= planted
    assert (found.first < found.second).all()
    assert (np.diff(found.score) <= 0).all()
    assert min(found.found.values()) > 0.9


def test_different_images_make_no_pairs_and_copies_do() -> None:
    images = pictures(120)
    assert pairs_of(found_in(images)) == set()
    assert pairs_of(found_in([*images, images[7]])) == {(7, 120)}


def test_bursts_become_clusters() -> None:
    images, random = pictures(120), np.random.default_rng(3)
    copies = [copy for number in range(60, 90) for copy in changed(images[number], random)]
    found = found_in(images + copies)
    labels = clusters(found.first, found.second, len(images) + len(copies))
    bursts = [{labels[60 + number], *labels[120 + 5 * number : 125 + 5 * number]} for number in range(30)]
    assert sum(len(burst) == 1 for burst in bursts) >= 27
    assert len({burst.pop() for burst in bursts}) == 30


def test_what_is_found_is_the_same_again() -> None:
    images = pictures(80)
    first, again = (found_in(images + images[:5]) for _ in range(2))
    assert first.score.tolist() == again.score.tolist()
    assert pairs_of(first) == pairs_of(again) == {(number, 80 + number) for number in range(5)}


def test_fewer_than_three_images_make_no_pairs() -> None:
    images = looks(pictures(2))
    assert pairs_of(near_doubles(images, np.arange(0), looks(pictures(1)))) == set()


def test_a_sample_is_drawn_by_its_seed() -> None:
    assert sampled(1000, 3).tolist() == sampled(1000, 3).tolist() != sampled(1000, 4).tolist()
    assert len(sampled(1000, 0)) == SAMPLE
    assert sampled(5, 0).tolist() == [0, 1, 2, 3, 4]


def test_changes_take_the_smallest_images() -> None:
    for self in changed(np.zeros((1, 1, 3), np.uint8), np.random.default_rng(0)):
        assert self.shape == (1, 1, 3)


def test_clusters_follow_chains_and_leave_the_rest_alone() -> None:
    first, second = np.array([3, 1, 4]), np.array([5, 4, 6])
    assert clusters(first, second, 7).tolist() == [0, 1, 2, 3, 1, 3, 1]
    assert clusters(first[:0], second[:0], 3).tolist() == [0, 1, 2]
