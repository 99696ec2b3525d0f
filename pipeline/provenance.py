"""When, where and with what something was made or measured: what a figure is worth nothing without."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import torch

from models.card import package_versions


def about(settings: Mapping[str, object], device: torch.device) -> dict[str, Any]:
    """When, where and with what something was made or measured."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "cores": len(os.sched_getaffinity(0)),
        "machine": torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine(),
        "versions": package_versions(),
        "settings": {name: str(value) for name, value in settings.items()},
    }
