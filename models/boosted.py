"""Boosted trees: the columns that tell classes apart, then XGBoost with few bins and heavy column sampling."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any, ClassVar

import joblib
import numpy as np
from numpy.typing import NDArray
from sklearn.feature_selection import SelectKBest, f_classif
from sklearn.pipeline import Pipeline
from xgboost import XGBClassifier
from xgboost.callback import TrainingCallback

from models.base import Head, OnStep, Probabilities, TrainingData
from models.settings import XgbSettings


class BoostedHead(Head):
    """XGBoost behind ANOVA column selection; saved as a scikit-learn Pipeline that ends in an XGBClassifier."""

    name: ClassVar[str] = "xgb"
    on_gpu: ClassVar[bool] = True
    suffixes: ClassVar[tuple[str, ...]] = (".joblib", ".ubj")
    settings: XgbSettings
    pipeline_: Pipeline

    def parameters(self) -> dict[str, Any]:
        """The settings and the seed; gpu_hist is hist, the device is told apart."""
        return super().parameters() | {"tree_method": "hist"}

    @property
    def steps(self) -> int:
        """Boosting rounds."""
        return self.settings.rounds

    def _fit(self, data: TrainingData, on_step: OnStep) -> None:
        settings = self.settings
        select = SelectKBest(f_classif, k=min(settings.columns, data.x.shape[1]))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # columns that never change have no F value and are chosen last
            select.fit(data.x, data.y)
        trees = XGBClassifier(
            n_estimators=settings.rounds,
            early_stopping_rounds=settings.patience,
            learning_rate=settings.learning_rate,
            max_depth=settings.max_depth,
            max_bin=settings.max_bin,
            colsample_bynode=settings.column_share,
            tree_method="hist",
            device=str(self.device),
            eval_metric="logloss" if len(data.classes) == 2 else "mlogloss",
            random_state=self.seed,
            callbacks=[_Steps(on_step)],
        )
        validation = (select.transform(data.x_validation), data.y_validation)
        trees.fit(select.transform(data.x), data.y, eval_set=[validation], verbose=False)
        self.learned_ = {"rounds": trees.best_iteration + 1, "validation_log_loss": float(trees.best_score)}
        self.device_ = json.loads(trees.get_booster().save_config())["learner"]["generic_param"]["device"]
        # A model trained on cuda would predict on cuda wherever it is loaded, and the callback is of this program.
        trees.set_params(device="cpu", callbacks=None)
        trees.get_booster().set_param({"device": "cpu"})
        self.pipeline_ = Pipeline([("select", select), ("xgb", trees)])

    def predict_proba(self, x: NDArray[np.float32]) -> Probabilities:
        """Class probabilities of (n, d) float32 features, on the CPU."""
        return np.asarray(self.pipeline_.predict_proba(x), dtype=np.float32)

    def save(self, path: Path, suffix: str) -> None:
        """Write the Pipeline as joblib, or its trees alone as UBJSON."""
        if suffix == ".joblib":
            joblib.dump(self.pipeline_, path, compress=3)
        else:
            path.write_bytes(self.pipeline_.named_steps["xgb"].get_booster().save_raw("ubj"))

    def restore(self, path: Path) -> None:
        """Take back the Pipeline."""
        self.pipeline_ = joblib.load(path)


class _Steps(TrainingCallback):
    """Tells `on_step` of each boosting round and its validation log-loss."""

    def __init__(self, on_step: OnStep) -> None:
        super().__init__()
        self._on_step = on_step

    def after_iteration(self, model: Any, epoch: int, evals_log: Any) -> bool:
        loss = next(iter(evals_log["validation_0"].values()))[-1]
        self._on_step(f"validation log-loss {loss:.4f}")
        return False
