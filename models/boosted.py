"""Boosted trees: the columns that tell classes apart, then XGBoost with few bins and heavy column sampling."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, ClassVar

import joblib
import numpy as np
import xgboost
from numpy.typing import NDArray
from sklearn.pipeline import Pipeline
from xgboost import XGBClassifier
from xgboost.callback import TrainingCallback

from features.joined import JoinedTable
from models.base import Head, OnStep, Probabilities
from models.data import TrainingData
from models.quantised import quantise
from models.selection import select_by_anova
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

    def steps(self, table: JoinedTable) -> int:
        """Boosting rounds."""
        return self.settings.rounds

    def _fit(self, data: TrainingData, on_step: OnStep) -> None:
        settings = self.settings
        select = select_by_anova(data, settings.columns)
        columns = select.get_support(indices=True)
        train = quantise(data.batches("train"), columns, max_bin=settings.max_bin)
        validation = quantise(data.batches("validation"), columns, max_bin=settings.max_bin, ref=train)
        booster = xgboost.train(
            self._tree_parameters(len(data.classes)),
            train,
            settings.rounds,
            evals=[(validation, "validation")],
            early_stopping_rounds=settings.patience,
            callbacks=[_Steps(on_step)],
            verbose_eval=False,
        )
        self.learned_ = {"rounds": booster.best_iteration + 1, "validation_log_loss": float(booster.best_score)}
        self.device_ = json.loads(booster.save_config())["learner"]["generic_param"]["device"]
        self.pipeline_ = Pipeline([("select", select), ("xgb", self._classifier(booster))])

    def _tree_parameters(self, classes: int) -> dict[str, Any]:
        settings = self.settings
        two = {"objective": "binary:logistic", "eval_metric": "logloss"}
        many = {"objective": "multi:softprob", "eval_metric": "mlogloss", "num_class": classes}
        return {
            "learning_rate": settings.learning_rate,
            "max_depth": settings.max_depth,
            "max_bin": settings.max_bin,
            "colsample_bynode": settings.column_share,
            "tree_method": "hist",
            "device": str(self.device),
            "seed": self.seed,
            **(two if classes == 2 else many),
        }

    def _classifier(self, booster: xgboost.Booster) -> XGBClassifier:
        """The rounds up to the best one as scikit-learn's users know them.

        They are loaded into a new classifier because a model that was trained on cuda would predict on cuda wherever
        it is.
        """
        settings = self.settings
        best = booster[: booster.best_iteration + 1]
        classifier = XGBClassifier(
            n_estimators=best.num_boosted_rounds(),
            learning_rate=settings.learning_rate,
            max_depth=settings.max_depth,
            max_bin=settings.max_bin,
            colsample_bynode=settings.column_share,
            tree_method="hist",
            device="cpu",
            random_state=self.seed,
        )
        classifier.load_model(bytearray(best.save_raw("ubj")))
        classifier.get_booster().set_param({"device": "cpu"})
        return classifier

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
        loss = next(iter(evals_log["validation"].values()))[-1]
        self._on_step(f"validation log-loss {loss:.4f}")
        return False
