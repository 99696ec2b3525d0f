"""The softmax probe: logistic regression on all columns, its L2 penalty chosen on validation."""

from __future__ import annotations

import copy
import warnings
from pathlib import Path
from typing import ClassVar

import joblib
import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss

from models.base import Head, OnStep, Probabilities, TrainingData
from models.settings import LinearSettings


class LinearHead(Head):
    """Softmax regression by L-BFGS; saved as a scikit-learn LogisticRegression."""

    name: ClassVar[str] = "linear"
    on_gpu: ClassVar[bool] = False
    suffixes: ClassVar[tuple[str, ...]] = (".joblib",)
    settings: LinearSettings
    model_: LogisticRegression

    @property
    def steps(self) -> int:
        """Penalties to try."""
        return len(self.settings.penalties)

    def _fit(self, data: TrainingData, on_step: OnStep) -> None:
        settings = self.settings
        scale = np.float32(1 / max(float(np.sqrt(np.mean(np.square(data.x)))), 1e-12))
        x, x_validation = data.x * scale, data.x_validation * scale
        model = LogisticRegression(warm_start=True, max_iter=settings.iterations)
        best_loss = float("inf")
        for penalty in settings.penalties:
            model.set_params(C=1 / (penalty * len(x)))
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ConvergenceWarning)  # stopping early regularises as well
                model.fit(x, data.y)
            loss = float(log_loss(data.y_validation, model.predict_proba(x_validation), labels=model.classes_))
            on_step(f"L2 {penalty:g}, validation log-loss {loss:.4f}")
            if loss >= best_loss:
                break
            best_loss, self.model_ = loss, copy.deepcopy(model)
            self.learned_ = {"penalty": penalty, "validation_log_loss": loss}
        self.model_.coef_ *= scale  # so that it takes features as they are

    def predict_proba(self, x: NDArray[np.float32]) -> Probabilities:
        """Class probabilities of (n, d) float32 features."""
        return np.asarray(self.model_.predict_proba(x), dtype=np.float32)

    def save(self, path: Path, suffix: str) -> None:
        """Write the LogisticRegression as joblib."""
        joblib.dump(self.model_, path, compress=3)

    def restore(self, path: Path) -> None:
        """Take back the LogisticRegression."""
        self.model_ = joblib.load(path)
