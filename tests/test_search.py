from __future__ import annotations

import json
import resource
from collections.abc import Callable
from dataclasses import replace
from math import inf
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest

from features.table.joined import JoinedTable
from models import search
from models.card import classifier_folder
from models.columns.workspace import Workspace
from models.errors import DataError, StudyError
from models.heads.boosted import BoostedHead
from models.heads.head import Head
from models.heads.mlp import _Learner
from models.heads.registry import HEADS, Range, make_head
from models.heads.settings import XgbSettings
from models.search import study_name
from models.trials import Search
from tests.conftest import CPU, SMALL, Run, refused
from tests.test_compare import REPORT
from tests.test_heads import fit, toy_table

FAST = XgbSettings(rounds=10, learning_rate=0.05, discriminant_columns=0)


SEARCHED = [name for name, entry in HEADS.items() if entry.space]


def trees(settings: XgbSettings = FAST, seed: int = 0) -> BoostedHead:
    return BoostedHead(settings, seed=seed, device=CPU)


def searched(
    folder: Path,
    head: Head,
    trials: int,
    table: JoinedTable | None = None,
    on_trial: Callable[[float], None] = lambda _: None,
) -> Search:
    with Workspace() as workspace:
        path = folder / "study.db"
        return search.search(head, table or toy_table(), workspace, path, trials=trials, on_trial=on_trial)


def learnt_loss(head: Head) -> float:
    return float(fit(head, toy_table()).learned_["validation_log_loss"])


def with_space(monkeypatch: pytest.MonkeyPatch, **space: Range) -> None:
    """Trees are searched over this space."""
    monkeypatch.setitem(HEADS, "xgb", replace(HEADS["xgb"], space=space))


@pytest.mark.parametrize("name", SEARCHED)
def test_the_settings_given_come_first(name: str, tmp_path: Path) -> None:
    head = make_head(name, seed=0, device=CPU)
    found = searched(tmp_path, head, 1)
    assert found.settings == head.settings
    again = head.with_settings({name: found.settings})
    assert classifier_folder(again, toy_table()) == classifier_folder(head, toy_table())
    expected = learnt_loss(head)
    assert found.given_loss == found.best_loss == pytest.approx(expected, abs=1e-9)


def test_what_is_found_is_never_worse_on_validation(tmp_path: Path) -> None:
    lowest: list[float] = []
    found = searched(tmp_path, trees(), 4, on_trial=lowest.append)
    assert lowest == sorted(lowest, reverse=True)
    assert lowest[0] == found.given_loss == pytest.approx(learnt_loss(trees()), abs=1e-9)
    assert (
        lowest[-1]
        == found.best_loss
        == pytest.approx(learnt_loss(trees().with_settings({"xgb": found.settings})), abs=1e-9)
    )
    assert found.best_loss < found.given_loss
    assert [trial.number for trial in found.tried] == [0, 1, 2, 3]
    assert found.seconds > 0


def test_the_same_seed_finds_the_same_settings(tmp_path: Path) -> None:
    first, again = (searched(tmp_path / name, trees(), 3) for name in ("first", "again"))
    assert (first.settings, first.tried) == (again.settings, again.tried)
    assert searched(tmp_path / "other", trees(seed=1), 3).tried[1:] != first.tried[1:]


def test_never_sees_the_test_rows(tmp_path: Path) -> None:
    table = toy_table()
    del table.splits["test"]
    assert searched(tmp_path / "without", trees(), 2, table).tried == searched(tmp_path / "with", trees(), 2).tried


def test_an_interrupted_search_goes_on_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = searched(tmp_path / "whole", trees(), 5)
    learn, fits = BoostedHead._fit, []

    def stop_at_once_and_later(head: BoostedHead, *arguments: Any) -> Any:
        fits.append(head.settings)
        if len(fits) in (1, 4):
            raise KeyboardInterrupt
        return learn(head, *arguments)

    monkeypatch.setattr(BoostedHead, "_fit", stop_at_once_and_later)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            searched(tmp_path / "parts", trees(), 5)
    resumed = searched(tmp_path / "parts", trees(), 5)
    assert len(fits) == 7
    assert fits[:2] == [FAST, FAST]
    assert fits[3] == fits[4]
    assert (resumed.settings, resumed.tried) == (whole.settings, whole.tried)
    again = searched(tmp_path / "parts", trees(), 5)
    assert again == replace(resumed, reused=True)
    assert len(fits) == 7


def test_more_trials_go_on_and_fewer_are_the_first_ones(tmp_path: Path) -> None:
    few = searched(tmp_path, trees(), 2)
    more = searched(tmp_path, trees(), 4)
    assert more.tried[:2] == few.tried
    assert not more.reused
    assert searched(tmp_path, trees(), 2) == replace(few, reused=True)


def test_what_lags_behind_is_pruned_and_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "UNTOUCHED_TRIALS", 1)
    with_space(monkeypatch, learning_rate=Range(1e-4, 1e-3, log=True))
    head = trees(replace(FAST, learning_rate=1.0))
    found = searched(tmp_path, head, 4)
    states = [trial.state for trial in found.tried]
    assert states[0] == "complete"
    assert found.pruned == states.count("pruned") >= 1
    assert found.settings == head.settings
    assert all(trial.loss is not None and trial.loss >= found.best_loss for trial in found.tried)
    assert searched(tmp_path, head, 4).reused


def test_a_loss_beyond_all_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_Learner, "_say", lambda self: np.full((len(self._unseen), 3), np.nan, np.float32))
    head = make_head("mlp", seed=0, device=CPU)
    found = searched(tmp_path, head, 1)
    assert found.tried[0].loss is None
    assert found.best_loss == inf
    assert found.settings == head.settings


def test_settings_given_outside_the_space(tmp_path: Path) -> None:
    given = replace(FAST, max_bin=24, max_depth=12, learning_rate=0.9)
    found = searched(tmp_path, trees(given), 2)
    assert found.given_loss == pytest.approx(learnt_loss(trees(given)), abs=1e-9)


def test_every_search_has_its_own_study(monkeypatch: pytest.MonkeyPatch) -> None:
    table, other = toy_table(), toy_table()
    other.tables[0].identity = "other"
    names = [study_name(make_head(name, seed=0, device=CPU), table) for name in SEARCHED]
    names += [study_name(trees(), table), study_name(trees(seed=1), table), study_name(trees(), other)]
    with_space(monkeypatch, learning_rate=Range(0.1, 0.2))
    names.append(study_name(trees(), table))
    assert len(set(names)) == len(names)


def test_a_damaged_study(tmp_path: Path) -> None:
    (tmp_path / "study.db").write_bytes(b"no database" * 100)
    with pytest.raises(StudyError, match=r"study.db is damaged \(.*not a database\): delete it and tune again"):
        searched(tmp_path, trees(), 1)


def test_a_study_in_which_a_letter_is_another(tmp_path: Path) -> None:
    searched(tmp_path, trees(), 1)
    study = tmp_path / "study.db"
    for before in (b"MINIMIZE", b'"attributes"', b"IntDistribution"):
        whole = study.read_bytes()
        study.write_bytes(whole.replace(before, before[:-2] + b"x" + before[-1:]))
        assert study.read_bytes() != whole
        with pytest.raises(StudyError, match=r"study.db is damaged \(.*\): delete it and tune again"):
            searched(tmp_path, trees(), 1)
        study.write_bytes(whole)


@pytest.mark.parametrize("name", ["a?b=c", "a%20b", "~", "a:b", "a#b", "a{b}", "ä"])
def test_a_study_lies_where_its_path_says(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    first = searched(Path(name), trees(), 1)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert [path.name for path in (tmp_path / name).iterdir()] == ["study.db"]
    assert searched(tmp_path / name, trees(), 1) == replace(first, reused=True)


def test_a_study_that_cannot_be_written(tmp_path: Path) -> None:
    searched(tmp_path, trees(), 1)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
    try:
        with pytest.raises(StudyError, match=r"cannot read or write the study .*study.db \(.*\): free some space"):
            searched(tmp_path, trees(), 2)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert len(searched(tmp_path, trees(), 2).tried) == 2


def test_a_table_that_nothing_can_be_learnt_of(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no training row of 2 of its 3 classes"):
        searched(tmp_path, trees(), 2, toy_table(labels=(1,)))


def test_xgb_keeps_the_study_and_says_on_the_card_what_it_took(
    treehead: Run, split_photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ("xgb", "--dataset", split_photos, *SMALL, "--xgb.learning-rate", 0.03, "--tune", 3, "-v")
    assert treehead(*command) == 0
    output = capsys.readouterr()
    study = next(Path("artifacts/tune").glob("*/xgb-*.db"))
    assert "xgb: 3 settings tried, in " in output.err
    assert "  0 given up early, validation log-loss " in output.err
    assert f"study {study}" in output.err
    card = json.loads(Path(output.out.strip()).with_suffix(".json").read_text())
    assert card["learned"]["tried"] == 3
    assert card["learned"]["tune_seconds"] > 0
    kept = optuna.load_study(study_name=study.stem, storage=f"sqlite:///{study}")
    assert {name: card["parameters"][name] for name in kept.best_params} == kept.best_params
    assert kept.trials[0].params["learning_rate"] == 0.03
    assert card["learned"]["validation_log_loss"] == pytest.approx(kept.best_value, abs=1e-9)
    assert treehead(*command) == 0
    again = capsys.readouterr()
    assert again.out == output.out
    assert "xgb: 3 settings tried, reused" in again.err


@pytest.mark.slow
def test_compare_draws_the_search_of_every_head(
    treehead: Run, split_photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ("compare", "--dataset", split_photos, *SMALL, "--heads", "xgb,hybrid")
    assert treehead(*command) == 0
    assert "tune s" not in next(Path("artifacts").glob("compare/*/report.html")).read_text()
    assert treehead(*command, "--tune", 2) == 0
    output = capsys.readouterr()
    assert output.err.count("xgb: 2 settings tried, in ") == 1
    found = REPORT.fullmatch(output.out.splitlines()[-2])
    assert found
    report = Path(found[1])
    assert "The search" in report.read_text()
    assert "tune s" in report.read_text()
    assert report.read_text().count("<svg") == 3 + 1 + 2, "searches, reliability, the label curve"
    metrics = json.loads(report.with_name("metrics.json").read_text())
    assert {name: [trial["number"] for trial in trials] for name, trials in metrics["tuning"].items()} == {
        name: [0, 1] for name in ("xgb", "linear", "mlp")
    }
    assert metrics["heads"]["hybrid"]["tune_seconds"] > metrics["heads"]["xgb"]["tune_seconds"] > 0


def test_a_number_of_trials_that_is_out_of_range(treehead: Run, capsys: pytest.CaptureFixture[str]) -> None:
    for command in ("xgb", "compare"):
        assert "--tune -1 is out of range: expected 0 to 10,000" in refused(treehead, capsys, command, "--tune", -1)
