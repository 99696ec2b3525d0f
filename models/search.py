"""The search for a head's settings: Optuna's TPE on validation log-loss, kept in SQLite and gone on with later.

What is tried of each setting stands in the registry. The settings that are given come first, so that a search never
ends with worse. After a tenth of its steps, two tenths and so on, a trial is held against the earlier ones, and given
up where it lags behind their median (pruned). Test rows are never seen. A head that is made of others has nothing of
its own to search: its parts do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from math import inf, isnan
from pathlib import Path

import numpy as np
import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
    distribution_to_json,
)
from optuna.exceptions import StorageInternalError, TrialPruned
from optuna.pruners import MedianPruner
from optuna.samplers import TPESampler
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import URL
from sqlalchemy.exc import DatabaseError, OperationalError

from features.errors import first_line
from features.storage import digest
from features.table.joined import JoinedTable
from models.card import classifier_folder
from models.columns.workspace import Workspace
from models.errors import StudyError
from models.heads.head import Head, Step
from models.heads.registry import HEADS, Choice, Range
from models.heads.settings import Settings
from models.trials import Search, Tried

CHECKPOINTS = 10
"""How often a trial is held against others. After each boosting round SQLite would take longer than the trees."""

UNTOUCHED_CHECKPOINTS = 3
"""Before this many nothing is pruned: slow learners are behind at first."""

UNTOUCHED_TRIALS = 5
"""Nor before this many trials are complete: a median of fewer says little."""

Setting = float | tuple[int, ...]
"""The value of a setting that can be searched."""

_FINISHED = (TrialState.COMPLETE, TrialState.PRUNED)


def study_name(head: Head, table: JoinedTable) -> str:
    """`<head>-<8 hex>`, another for every head, setting that is given, device, table and search space."""
    space = {name: distribution_to_json(values) for name, values in _space(head).items()}
    return f"{head.name}-{digest({'from': classifier_folder(head, table), 'space': space})[:8]}"


def search(
    head: Head,
    table: JoinedTable,
    workspace: Workspace,
    path: Path,
    *,
    trials: int,
    on_trial: Callable[[float], None],
) -> Search:
    """Find settings for a head yet to be fitted: the best of its own and `trials` − 1 others, on validation rows.

    The study in `path` is made where absent, and only what it lacks is tried: each trial draws from the seed, its own
    number and the trials before, so that an interrupted search ends where an uninterrupted one does. `on_trial` hears
    of each trial, those found in the study included, with the lowest loss so far. Raises StudyError.
    """
    with _one_line(path):
        study = _open(path, head)
        found = len(_finished(study))
        for number in range(trials):
            if number >= found:
                _try_next(study, head, table, workspace)
            on_trial(min(map(_loss, _finished(study)[: number + 1])))
        done = _finished(study)[:trials]
    return Search(
        settings=_settings(head, min(done, key=_loss).params),
        tried=tuple(_tried(number, trial) for number, trial in enumerate(done)),
        seconds=sum(trial.duration.total_seconds() for trial in done if trial.duration),
        reused=found >= trials,
    )


@contextmanager
def _one_line(path: Path) -> Iterator[None]:
    """Turn what SQLite refuses into a StudyError."""
    try:
        yield
    except (OperationalError, StorageInternalError) as error:
        raise StudyError(
            f"cannot read or write the study {path} ({first_line(error)}): "
            "free some space, wait for other runs that use it, or choose another `out`"
        ) from error
    except DatabaseError as error:
        raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> StudyError:
    return StudyError(f"{path} is damaged ({first_line(error)}): delete it and tune again")


def _open(path: Path, head: Head) -> optuna.Study:
    """The study in `path`, made where absent, and read once; raises StudyError where no search of `head` wrote it."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        study = _create(path)
        for trial in study.get_trials(deepcopy=False, states=_FINISHED):
            _settings(head, trial.params)
    except (ValueError, LookupError, TypeError, AttributeError, AssertionError) as error:  # a database, but no study
        raise _damaged(path, error) from error
    return study


def _create(path: Path) -> optuna.Study:
    # A file's URI within a URL, so that no letter of the path ends it, or is a place that Optuna fills.
    url = URL.create("sqlite", database=path.absolute().as_uri(), query={"uri": "true"})
    return optuna.create_study(
        storage=url.render_as_string(),
        study_name=path.stem,
        pruner=MedianPruner(n_startup_trials=UNTOUCHED_TRIALS, n_warmup_steps=UNTOUCHED_CHECKPOINTS),
        load_if_exists=True,
    )


def _try_next(study: optuna.Study, head: Head, table: JoinedTable, workspace: Workspace) -> None:
    """Try the given settings first, then what the sampler draws. A trial that does not end stays behind, uncounted."""
    space = _space(head)
    if not study.get_trials(deepcopy=False, states=(*_FINISHED, TrialState.WAITING)):
        study.enqueue_trial({name: _encode(getattr(head.settings, name)) for name in space})
    seed = np.random.SeedSequence((head.seed, len(_finished(study)))).generate_state(1)[0]
    study.sampler = TPESampler(seed=int(seed), constant_liar=False)  # which would believe in trials left behind
    trial = study.ask(space)
    candidate = head.with_settings({head.name: _settings(head, trial.params)})
    checkpoints = _Checkpoints(trial, candidate.steps())
    try:
        candidate.fit(table, workspace, checkpoints)
    except TrialPruned:
        study.tell(trial, state=TrialState.PRUNED)
    else:
        loss = candidate.learned_["validation_log_loss"]
        loss = inf if isnan(loss) else loss
        checkpoints.hold(loss)
        study.tell(trial, loss)


class _Checkpoints:
    """Reports a trial's loss at each tenth of its steps; raises TrialPruned where it lags behind earlier ones."""

    def __init__(self, trial: optuna.Trial, steps: int) -> None:
        self._trial, self._steps = trial, steps
        self._done = self._last = 0

    def __call__(self, step: Step) -> None:
        self._done += 1
        checkpoint = CHECKPOINTS * self._done // self._steps
        if step.loss is None or not self._last < checkpoint < CHECKPOINTS:  # at the last there is nothing left to save
            return
        self._last = checkpoint
        self._trial.report(step.loss, checkpoint)
        if self._trial.should_prune():
            raise TrialPruned

    def hold(self, loss: float) -> None:
        """Whoever stopped early keeps `loss` to the end: later trials that go on are held against it."""
        for checkpoint in range(self._last + 1, CHECKPOINTS):
            self._trial.report(loss, checkpoint)


def _space(head: Head) -> dict[str, BaseDistribution]:
    """The head's search space, made wide enough for the settings that it has."""
    space = HEADS[head.name].space
    return {name: _distribution(values, getattr(head.settings, name)) for name, values in space.items()}


def _distribution(values: Range | Choice, given: Setting) -> BaseDistribution:
    """What Optuna draws from: `values`, and as far as it takes the value that was `given`."""
    if isinstance(values, Choice):
        return CategoricalDistribution(tuple(dict.fromkeys(map(_encode, (*values.values, given)))))
    assert not isinstance(given, tuple)  # several values are not in any range
    low, high = min(values.low, given), max(values.high, given)
    if isinstance(values.low, int):
        return IntDistribution(int(low), int(high), log=values.log)
    return FloatDistribution(low, high, log=values.log)


def _encode(setting: Setting) -> float | str:
    """A setting as a study holds it: layers as text, 512x512, the rest as it is."""
    return "x".join(map(str, setting)) if isinstance(setting, tuple) else setting


def _decode(value: float | str) -> Setting:
    """The opposite of `_encode`."""
    return tuple(map(int, value.split("x"))) if isinstance(value, str) else value


def _settings(head: Head, params: Mapping[str, float | str]) -> Settings:
    return replace(head.settings, **{name: _decode(value) for name, value in params.items()})


def _finished(study: optuna.Study) -> list[FrozenTrial]:
    return study.get_trials(deepcopy=False, states=_FINISHED)


def _loss(trial: FrozenTrial) -> float:
    """What trials are chosen by; a pruned one never is."""
    return trial.value if trial.state == TrialState.COMPLETE and trial.value is not None else inf


def _tried(number: int, trial: FrozenTrial) -> Tried:
    loss = trial.value if trial.value is not None and np.isfinite(trial.value) else None
    return Tried(number=number, loss=loss, state="complete" if trial.state == TrialState.COMPLETE else "pruned")
