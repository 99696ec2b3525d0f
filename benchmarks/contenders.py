"""Who `python -m benchmarks heads` measures: our heads, and other learners as their documentation starts.

Each has a process of its own.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Protocol, cast

import joblib
import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from xgboost import XGBClassifier

from features.devices import resolve_device
from features.table.joined import JoinedTable
from features.table.table import FeatureTable
from models.columns.workspace import Workspace
from models.heads.head import Head, JsonObject, Probabilities, Step
from models.heads.registry import DEFAULTS, HEADS, HeadSettings, make_head
from models.heads.settings import XgbSettings
from pipeline.costs import peak_bytes
from pipeline.report.statistics import Scores, score

SLOWER = XgbSettings(columns=1024, rounds=3000, learning_rate=0.1, column_share=0.1)
"""Trees that take their time: what there is to gain by it."""

LEARNING = ("train", "validation")


@dataclass(frozen=True, kw_only=True)
class HeadJob:
    """One measurement: `what` of MEASURES, on the tables in `folders`; heads are left in `scratch` for others."""

    what: str
    folders: tuple[Path, ...]
    device: str
    seed: int
    scratch: Path


@dataclass(frozen=True, kw_only=True)
class Measured:
    """Seconds to fit, reading counted; the most memory until then, in bytes; and how good it is on the test rows.

    `gpu_bytes` is what more was in use on the GPU after a step of training than before all of them, by any process.
    """

    seconds: float
    peak_bytes: int
    gpu_bytes: int
    scores: Scores
    learned: JsonObject
    predicted: NDArray[np.intp]

    def to_json(self) -> JsonObject:
        """What `heads.json` holds of it, but for what was predicted."""
        return {
            "fit_seconds": self.seconds,
            "peak_bytes": self.peak_bytes,
            "gpu_bytes": self.gpu_bytes,
            **asdict(self.scores),
            "learned": self.learned,
        }


class Learner(Protocol):
    """A classifier as scikit-learn's users know them."""

    def fit(self, x: NDArray[np.float32], y: NDArray[np.int32], /) -> object:
        """Learn from features (n, d) and labels (n,)."""
        ...

    def predict_proba(self, x: NDArray[np.float32], /) -> Probabilities:
        """Class probabilities (n, k) of features (n, d)."""
        ...


def measure(job: HeadJob) -> Measured:
    """Do one job; meant for a process of its own."""
    return MEASURES[job.what](open_tables(job.folders), job)


def open_tables(folders: tuple[Path, ...]) -> JoinedTable:
    """The feature tables in these folders, side by side."""
    return JoinedTable([FeatureTable.open(folder) for folder in folders])


def _head(table: JoinedTable, job: HeadJob) -> Measured:
    """A head on all rows; one that is made of others takes those, which were measured before it."""
    head = make_head(job.what, seed=job.seed, device=resolve_device(job.device))
    head.take([joblib.load(job.scratch / part.name) for part in head.parts])
    measured = _fit_head(head, table)
    joblib.dump(head, job.scratch / head.name)
    return measured


def _head_on_cpu(table: JoinedTable, job: HeadJob) -> Measured:
    return _fit_head(make_head("xgb", seed=job.seed, device=torch.device("cpu")), table)


def _ours(table: JoinedTable, job: HeadJob) -> Measured:
    return _fit_trees(XgbSettings(), table, job)


def _ours_slower(table: JoinedTable, job: HeadJob) -> Measured:
    return _fit_trees(SLOWER, table, job)


def _ours_last_node(table: JoinedTable, job: HeadJob) -> Measured:
    return _fit_trees(XgbSettings(), _last_node(table), job)


def _ours_slower_last_node(table: JoinedTable, job: HeadJob) -> Measured:
    return _fit_trees(SLOWER, _last_node(table), job)


def _rival(table: JoinedTable, job: HeadJob) -> Measured:
    """Another learner on the raw columns of the last node, as tutorials have it, validation rows learnt as well."""
    raw = _last_node(table)
    model = RIVALS[job.what](job)
    start = time.perf_counter()
    model.fit(*_learning_rows(raw))
    return _scored(raw, model.predict_proba, seconds=time.perf_counter() - start)


def _xgb_classifier(job: HeadJob) -> Learner:
    return XGBClassifier(random_state=job.seed, device=job.device)


def _hist_gradient_boosting(job: HeadJob) -> Learner:
    return HistGradientBoostingClassifier(random_state=job.seed)


def _lightgbm(job: HeadJob) -> Learner:
    from lightgbm import LGBMClassifier  # this alone needs it

    return cast(Learner, LGBMClassifier(random_state=job.seed, verbosity=-1))  # it may return what it never does here


def _logistic_regression(_: HeadJob) -> Learner:
    return make_pipeline(StandardScaler(), LogisticRegression(max_iter=100))


def _random_forest(job: HeadJob) -> Learner:
    return RandomForestClassifier(random_state=job.seed, n_jobs=-1)  # its default is one core, the others take all


RIVALS: dict[str, Callable[[HeadJob], Learner]] = {
    "xgbclassifier": _xgb_classifier,
    "hist-gradient-boosting": _hist_gradient_boosting,
    "lightgbm": _lightgbm,
    "logistic-regression": _logistic_regression,
    "random-forest": _random_forest,
}
"""Other learners with their own defaults."""

ALL_ROWS: dict[str, Callable[[JoinedTable, HeadJob], Measured]] = {
    **dict.fromkeys(sorted(HEADS, key=lambda name: len(DEFAULTS.of(name).parts)), _head),
    "xgb-on-cpu": _head_on_cpu,
}
"""On all rows, what is made of others after them; `xgb-on-cpu` beside a GPU."""

OURS: dict[str, Callable[[JoinedTable, HeadJob], Measured]] = {
    "ours": _ours,
    "ours-slower": _ours_slower,
    "ours-last-node": _ours_last_node,
    "ours-slower-last-node": _ours_slower_last_node,
}
"""Trees on some rows; of the last node alone, which is all that rivals see, where there are several."""

MEASURES = ALL_ROWS | OURS | dict.fromkeys(RIVALS, _rival)


def _last_node(table: JoinedTable) -> JoinedTable:
    return JoinedTable(table.tables[-1:])


def _learning_rows(table: JoinedTable) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """Features (n, d) and labels (n,) of training and then validation rows."""
    labels = np.concatenate([table.labels(split) for split in LEARNING])
    x = np.empty((len(labels), table.dim), np.float32)
    start = 0
    for split in LEARNING:
        for rows in table.batches(split):
            x[start : start + len(rows)] = rows.x
            start += len(rows)
    return x, labels


def _fit_trees(settings: XgbSettings, table: JoinedTable, job: HeadJob) -> Measured:
    head = make_head("xgb", HeadSettings(xgb=settings), seed=job.seed, device=resolve_device(job.device))
    return _fit_head(head, table)


def _fit_head(head: Head, table: JoinedTable) -> Measured:
    before = _gpu_bytes_in_use(head.device)
    most = before

    def note_memory(_: Step) -> None:
        nonlocal most
        most = max(most, _gpu_bytes_in_use(head.device))

    with Workspace() as workspace:
        head.fit(table, workspace, note_memory)
    measured = _scored(table, head.predict_proba, seconds=head.fit_seconds_)
    return replace(measured, gpu_bytes=most - before, learned=head.learned_)


def _gpu_bytes_in_use(device: torch.device) -> int:
    if device.type != "cuda":
        return 0
    free, total = torch.cuda.mem_get_info(device)
    return total - free


def _scored(table: JoinedTable, predict: Callable[[NDArray[np.float32]], Probabilities], *, seconds: float) -> Measured:
    """What was learnt, on the test rows; call it right after fitting."""
    peak = peak_bytes()
    test = table.read("test")
    probabilities = predict(test.x)
    return Measured(
        seconds=seconds,
        peak_bytes=peak,
        gpu_bytes=0,
        scores=score(probabilities, test.y),
        learned={},
        predicted=probabilities.argmax(axis=1),
    )
