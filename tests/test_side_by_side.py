"""Several networks at once: each as if it were alone, images read once, and the chosen ones in use."""

from __future__ import annotations

import json
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import treehead as public
from features.errors import TrunkError
from features.extract import extract
from features.frozen_trunk import FrozenTrunk
from features.sources.registry import open_source
from features.sources.source import Payload
from features.table import shard
from features.table.joined import JoinedTable
from features.timing import Timing
from features.trunk.loaded import open_networks
from features.trunk.spec import DEFAULT_TRUNKS, TrunkOptions
from features.trunk.trunk import Trunk, cut_trunk
from tests.conftest import CPU, Run, make_tiny_trunk, refused
from tests.test_extract import contents

NETWORKS = TrunkOptions(backbone="resnet18,squeezenet1_1", weights="random", node=",features.7+features", image_size=48)

BOTH = ("--backbone", "resnet18,squeezenet1_1", "--weights", "random", "--image-size", 48, "--precision", "fp32")


def trunks() -> list[Trunk]:
    """One of a node, batches of 16; one of two nodes, batches of 4."""
    first, second = (cut_trunk(loaded, NETWORKS, CPU) for loaded in open_networks(NETWORKS))
    second.batch_images = 4
    return [first, second]


@pytest.fixture
def damaged(photos: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Photos, some unreadable at uneven places, in shards of 10 to 40."""
    for name, count in {"LEAST_IMAGES": 10, "LIKELY_IMAGES": 15, "MOST_IMAGES": 40}.items():
        monkeypatch.setattr(shard, name, count)
    for number in (1, 7, 18, 19):
        (photos / f"red/{number:03d}.png").write_bytes(b"no image")
    return photos


def test_each_network_has_the_bytes_that_it_has_alone(damaged: Path, tmp_path: Path) -> None:
    source = open_source(str(damaged))
    made = extract(source, trunks(), tmp_path / "both", max_bad=0.1, on_images=lambda _: None)
    assert [table.spec.trunk.title for table in made.tables] == [
        "resnet18.flatten",
        "squeezenet1_1.features.7",
        "squeezenet1_1.features",
    ]
    for trunk in trunks():
        extract(source, [trunk], tmp_path / "alone", max_bad=0.1, on_images=lambda _: None)
    assert contents(tmp_path / "both") == contents(tmp_path / "alone")
    joined = JoinedTable(made.tables)
    assert joined.errors == 4
    assert joined.dims == (512, 256 * 5 * 5, 512 * 2 * 2)


def test_each_image_is_read_once(photos: Path, tmp_path: Path) -> None:
    source, rows = open_source(str(photos)), []

    def read(row: int) -> Payload:
        rows.append(row)
        return source.read(row)

    extract(replace(source, read=read), trunks(), tmp_path, max_bad=0, on_images=lambda _: None)
    assert sorted(rows) == sorted(source.items.index)


def test_a_network_whose_tables_are_there_is_left_alone(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, (first, second) = open_source(str(photos)), trunks()
    extract(source, [first], tmp_path, max_bad=0, on_images=lambda _: None)
    undisturbed = contents(tmp_path)
    monkeypatch.setattr(first, "compute", None)
    done = extract(source, [first, second], tmp_path, max_bad=0, on_images=lambda _: None)
    assert (done.extracted, len(done.tables)) == (120, 3)
    assert undisturbed.items() <= contents(tmp_path).items()


def test_what_each_network_costs(photos: Path, tmp_path: Path) -> None:
    done = extract(open_source(str(photos)), trunks(), tmp_path, max_bad=0, on_images=lambda _: None)
    first, second, third = (Timing.read(table.folder) for table in done.tables)
    assert first is not None
    assert second is not None
    assert second == third
    assert first.stages["decode"] == second.stages["decode"] > 0
    assert 0 < first.own_us_per_image < first.us_per_image
    shared = first.us_per_image - first.own_us_per_image
    assert second.us_per_image - second.own_us_per_image == pytest.approx(shared, rel=0.02)
    forward = done.seconds["forward"]
    assert first.stages["forward"] + second.stages["forward"] == pytest.approx(forward)


def test_the_default_is_two_networks_and_what_is_one_networks_belongs_to_one() -> None:
    unnamed = TrunkOptions().each()
    assert {one.backbone: one.node or "" for one in unnamed} == DEFAULT_TRUNKS
    assert [one.backbone for one in TrunkOptions(weights="imagenet").each()] == ["alexnet"]
    (depths,) = TrunkOptions(node="depths").each()
    assert (depths.backbone, depths.node) == ("alexnet", "depths")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"backbone": "alexnet,resnet18,alexnet"},
            r"`backbone=.*` names 'alexnet' more than once: name each network once",
        ),
        (
            {"backbone": "alexnet,resnet18", "weights": "random,random,random"},
            r"`weights=.*` has 3 entries for 2 networks",
        ),
        ({"backbone": "alexnet,resnet18,vgg11", "node": "depths,"}, r"`node=depths,` has 2 entries for 3 networks"),
    ],
)
def test_what_does_not_go_together(options: dict[str, Any], message: str) -> None:
    with pytest.raises(TrunkError, match=message):
        TrunkOptions(**options).each()


def test_a_chosen_network_alone_is_run_by_predict(
    treehead: Run, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ("compare", "--dataset", photos, *BOTH, "--heads", "linear,xgb", "--xgb.rounds", 5)
    assert treehead(*command) == 0
    said = capsys.readouterr()
    (report,) = tmp_path.glob("artifacts/compare/*/report.html")
    metrics = json.loads((report.parent / "metrics.json").read_text())
    assert set(metrics["network_us"]) == {"resnet18", "squeezenet1_1"}
    assert min(metrics["network_us"].values()) > 0
    selected = said.err.split("selected: ")[1].splitlines()[0].split(", ")
    assert selected == [f"{trunk['backbone']}.{trunk['node']}" for trunk in metrics["trunks"]]
    card = json.loads(Path(metrics["heads"]["linear"]["file"]).with_suffix(".json").read_text())
    networks = {trunk["backbone"] for trunk in card["trunks"]}
    assert card["weights"] == ",".join("random" for _ in networks)
    assert networks == {title.partition(".")[0] for title in selected}


def test_all_side_by_side_is_for_who_asks(
    treehead: Run, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert treehead("xgb", "--dataset", photos, *BOTH, "--no-select", "--xgb.rounds", 5) == 0
    model = Path(capsys.readouterr().out.strip())
    card = json.loads(model.with_suffix(".json").read_text())
    assert [trunk["backbone"] for trunk in card["trunks"]] == ["resnet18", "squeezenet1_1"]
    assert card["weights"] == "random,random"
    assert model.parent.parent.name.startswith("photos-resnet18-squeezenet1_1-2nodes-")
    images = sorted(photos.glob("red/*.png"))[:5]
    classes = public.load_classifier(model).predict_images(images)
    assert treehead("predict", model, *images, "--csv") == 0
    rows = capsys.readouterr().out.splitlines()[1:]
    assert [row.split(",")[1] for row in rows] == list(classes)
    assert "has 3 entries for 2 networks" in refused(treehead, capsys, "predict", model, *images, "--weights", "a,b,c")


def test_side_by_side_in_a_program(photos: Path) -> None:
    paths: Any = sorted(photos.glob("red/*.png"))[:5]
    options: dict[str, Any] = {"weights": "random", "image_size": 48, "precision": "fp32"}
    both = FrozenTrunk("resnet18,squeezenet1_1", **options)
    found = both.fit_transform(paths)
    alone = [FrozenTrunk(name, **options).fit_transform(paths) for name in ("resnet18", "squeezenet1_1")]
    assert np.array_equal(found, np.hstack(alone))
    names = both.get_feature_names_out()
    assert (names[0], names[512]) == ("resnet18.flatten_0", "squeezenet1_1.features_0")
    assert np.array_equal(pickle.loads(pickle.dumps(both)).transform(paths), found)


def test_two_networks_of_which_one_cannot_read_an_image_agree(photos: Path, tmp_path: Path) -> None:
    """Tables that stand side by side hold the same images, whoever was made first."""
    source = open_source(str(photos))
    tables = extract(source, [make_tiny_trunk()], tmp_path, max_bad=0, on_images=lambda _: None).tables
    tables += extract(source, trunks(), tmp_path, max_bad=0, on_images=lambda _: None).tables
    assert len(JoinedTable(tables).index()) == 120
