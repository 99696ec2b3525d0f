from __future__ import annotations

from typing import Any

import pytest

from models.errors import SettingsError
from models.networks.settings import TrainingSettings, Views


@pytest.mark.parametrize(
    ("settings", "given", "message"),
    [
        (TrainingSettings, {"epochs": 0}, "`epochs=0` is out of range: expected 1 to 100000"),
        (TrainingSettings, {"batch_images": 1}, "`batch_images=1` is out of range: expected 2 to 100000"),
        (TrainingSettings, {"minutes": 0.0}, "`minutes=0.0` is out of range: expected above 0, at most 1000000"),
        (
            TrainingSettings,
            {"learning_rate": 0.0},
            "`learning_rate=0.0` is out of range: expected above 0, at most 100",
        ),
        (TrainingSettings, {"patience": -1}, "`patience=-1` is out of range: expected 0 to 100000"),
        (TrainingSettings, {"label_smoothing": 1.0}, "`label_smoothing=1.0` is no share: expected 0 or more, below 1"),
        (Views, {"min_area": 1.5}, "`min_area=1.5` is out of range: expected above 0, at most 1"),
        (Views, {"hflip": -0.1}, "`hflip=-0.1` is no share: expected 0 or more, below 1"),
        (Views, {"max_degrees": 181.0}, "`max_degrees=181.0` is out of range: expected 0 to 180"),
    ],
)
def test_settings_out_of_range(settings: type, given: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        settings(**given)
