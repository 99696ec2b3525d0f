from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks import heads
from benchmarks.config import BenchHeadsConfig
from benchmarks.contenders import MEASURES, OURS, RIVALS, HeadJob, Measured, measure
from benchmarks.memory import MemoryJob, PeakMemory, growth, measure_memory, quantised_bytes
from benchmarks.tables import Repeated, in_proportion, write_some
from features.extract import extract
from features.sources.registry import open_source
from features.table.joined import JoinedTable
from pipeline.errors import ConfigError
from pipeline.report.statistics import Scores
from tests.conftest import Run, make_tiny_trunk, refused


def table(photos: Path, root: Path, *others: str) -> JoinedTable:
    source = open_source(str(photos))
    return JoinedTable(
        extract(source, [make_tiny_trunk("pool", *others)], root, max_bad=0, on_images=lambda _: None).tables
    )


def job(of: JoinedTable, what: str, scratch: Path) -> HeadJob:
    return HeadJob(what=what, folders=tuple(each.folder for each in of.tables), device="cpu", seed=0, scratch=scratch)


def measured(seconds: float, peak_bytes: int = 7, predicted: tuple[int, ...] = (0, 1)) -> Measured:
    scores = Scores(accuracy=0.9, accuracy_low=0.8, accuracy_high=0.95, log_loss=0.3)
    return Measured(
        seconds=seconds, peak_bytes=peak_bytes, gpu_bytes=0, scores=scores, learned={}, predicted=np.array(predicted)
    )


@pytest.mark.slow
@pytest.mark.parametrize("what", [*OURS, *RIVALS])
def test_every_contender_learns(what: str, photos: Path, tmp_path: Path) -> None:
    run = measure(job(table(photos, tmp_path / "features", "early"), what, tmp_path))
    assert run.scores.accuracy > 0.8
    assert run.seconds > 0
    assert run.peak_bytes > 2**20
    assert run.gpu_bytes == 0


def test_rivals_see_the_last_node_and_learn_from_validation_as_well(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    class Rival:
        def fit(self, x: np.ndarray, y: np.ndarray) -> None:
            seen.append((x, y))

        def predict_proba(self, x: np.ndarray) -> np.ndarray:
            return np.full((len(x), 3), 1 / 3, np.float32)

    both = table(photos, tmp_path / "features", "early")
    monkeypatch.setitem(RIVALS, "random-forest", lambda _: Rival())
    measure(job(both, "random-forest", tmp_path))
    ((x, y),) = seen
    last = JoinedTable(both.tables[-1:])
    assert np.array_equal(x, np.concatenate([last.read("train").x, last.read("validation").x]))
    assert np.array_equal(y, np.concatenate([last.labels("train"), last.labels("validation")]))


def test_hybrid_takes_the_parts_that_were_measured(photos: Path, tmp_path: Path) -> None:
    one = table(photos, tmp_path / "features")
    seconds = [measure(job(one, what, tmp_path)).seconds for what in ("xgb", "linear", "mlp")]
    run = measure(job(one, "hybrid", tmp_path))
    assert set(run.learned["weights"]) == {"xgb", "linear", "mlp"}
    assert sum(seconds) < run.seconds < sum(seconds) + max(seconds)


def test_some_rows_hold_every_split_and_class_in_proportion(photos: Path, tmp_path: Path) -> None:
    both = table(photos, tmp_path / "features", "early")
    keys = in_proportion(both, 40, seed=0)
    some = write_some(both, keys, tmp_path / "some")
    assert some.rows["train"] + some.rows["validation"] == 40
    assert some.rows["test"] == both.rows["test"]
    share = 40 / (both.rows["train"] + both.rows["validation"])
    for split in ("train", "validation"):
        for label in range(3):
            whole = np.count_nonzero(both.labels(split) == label)
            assert np.count_nonzero(some.labels(split) == label) == pytest.approx(share * whole, abs=1)
    rows, every = some.read("train"), both.read("train")
    places = {key: place for place, key in enumerate(every.keys)}
    assert np.array_equal(rows.x, every.x[[places[key] for key in rows.keys]])
    assert in_proportion(both, 40, seed=0) == keys
    assert in_proportion(both, 40, seed=1) != keys
    assert len(in_proportion(both, 10**6, seed=0)) == len(both.index())


def test_repeated_rows_come_in_order_and_are_the_same_whenever_asked_for(photos: Path, tmp_path: Path) -> None:
    one = table(photos, tmp_path / "features")
    four = Repeated(one, 4)
    rows, once = four.read("train"), one.read("train")
    assert len(rows) == four.rows["train"] == len(four.labels("train")) == 4 * one.rows["train"]
    assert np.array_equal(rows.y, four.labels("train"))
    assert np.array_equal(rows.y, four.index().query("split == 'train'")["label"])
    assert rows.x == pytest.approx(np.tile(once.x, (4, 1)), rel=0.03)
    assert len(np.unique(rows.x, axis=0)) == len(rows)
    assert np.array_equal(four.read("train").x, rows.x)
    assert np.array_equal(four.read("test").x, one.read("test").x)
    assert four.identity != one.identity


def test_memory_of_a_longer_table(photos: Path, tmp_path: Path) -> None:
    folders = tuple(each.folder for each in table(photos, tmp_path / "features").tables)
    once, four = (measure_memory(MemoryJob(folders=folders, times=times, seed=0)) for times in (1, 4))
    assert four.rows == 4 * once.rows
    assert four.quantised_bytes == pytest.approx(4 * once.quantised_bytes, rel=0.1)
    assert once.peak_bytes > once.quantised_bytes > once.rows


def test_quantised_bytes_are_those_that_xgboost_holds() -> None:
    assert quantised_bytes(2, 80) == 160 + 640 + 160 + 20


def test_growth_is_counted_beyond_the_quantised_rows() -> None:
    figures = growth(
        PeakMemory(rows=10, peak_bytes=100, quantised_bytes=10), PeakMemory(rows=40, peak_bytes=150, quantised_bytes=40)
    )
    assert figures == {"more_bytes": 50, "more_quantised_bytes": 30, "beyond_quantised": 0.2}


def test_ratios_are_of_seconds(photos: Path, tmp_path: Path) -> None:
    runs = {"ours": measured(2), "ours-slower": measured(8), "xgbclassifier": measured(20)}
    figures = heads.section(table(photos, tmp_path / "features"), runs)
    assert figures.seconds_over["ours"] == {"ours": 1, "ours-slower": 4, "xgbclassifier": 10}
    assert figures.seconds_over["ours-slower"]["xgbclassifier"] == 2.5
    assert "gpu_and_cpu_agree" not in figures.to_json()


def test_trees_of_gpu_and_cpu_are_compared_image_by_image(photos: Path, tmp_path: Path) -> None:
    runs = {"xgb": measured(1, predicted=(0, 1, 2, 2)), "xgb-on-cpu": measured(9, predicted=(0, 1, 2, 1))}
    assert heads.section(table(photos, tmp_path / "features"), runs).gpu_and_cpu_agree == 0.75


def test_what_cannot_be_measured_is_said_first(monkeypatch: pytest.MonkeyPatch) -> None:
    everything = ",".join(MEASURES)
    assert heads.names_to_skip(BenchHeadsConfig(skip=everything)) == set(MEASURES)
    with pytest.raises(ConfigError, match=r"--skip forest is not measured: expected some of xgb, .*, memory"):
        heads.names_to_skip(BenchHeadsConfig(skip="forest"))
    with pytest.raises(ConfigError, match=r"--skip mlp, xgb leaves hybrid, which is made of it: add hybrid to --skip"):
        heads.names_to_skip(BenchHeadsConfig(skip="xgb,mlp"))
    monkeypatch.setattr(heads, "find_spec", lambda _: None)
    with pytest.raises(ConfigError, match=r'lightgbm is not installed: pip install "treehead\[bench\]", or add'):
        heads.names_to_skip(BenchHeadsConfig())
    assert heads.names_to_skip(BenchHeadsConfig(skip="lightgbm")) == {"lightgbm"}


@pytest.mark.slow
def test_bench_heads_writes_figures_and_ratios(
    benchmark: Run, split_photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    measured_here = {"xgb", "ours", "random-forest"}
    skip = ",".join(sorted(set(MEASURES) - measured_here))
    network = ("--backbone", "squeezenet1_1", "--node", "features.3", "--pool", "avg", "--image-size", 32)
    options = ("--dataset", split_photos, *network, "--device", "cpu", "--rows", 24, "--skip", skip)
    assert benchmark("heads", *options) == 0
    content = json.loads(Path("artifacts/bench/heads.json").read_text())
    assert set(content["all rows"]["measured"]) == {"xgb"}
    assert set(content["some rows"]["measured"]) == {"ours", "random-forest"}
    assert content["some rows"]["rows"] == {"train": 18, "validation": 6, "test": 18}
    assert set(content["some rows"]["seconds_over"]) == {"ours"}
    assert [held["rows"] for held in content["memory"]["measured"]] == [36, 144]
    assert content["settings"]["rows"] == "24"
    assert content["cores"] >= 1
    output = capsys.readouterr().out
    assert all(f"\n{what} " in output for what in measured_here)
    assert "beyond its quantised rows, the longer table raises the peak by" in output
    assert [path.name for path in Path("artifacts/bench").iterdir()] == ["heads.json"]


def test_too_few_rows_are_refused(benchmark: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert "--rows 1 leaves nothing to learn from" in refused(benchmark, capsys, "heads", "--rows", 1)
