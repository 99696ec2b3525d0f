"""When, where and with what something was made or measured: what a figure is worth nothing without."""

from __future__ import annotations

import platform
import re
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import torch

from features.devices import usable_cores
from models.card import package_versions

_PASSWORD = re.compile(r"(?<=://)[^/@\s]*@|(?<=[?&])[^=&\s]*(token|key|password|signature)[^=&\s]*=[^&\s'\"]*", re.I)


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """The `date` (UTC, ISO 8601), the `cores` that the process may use, and the machine: its GPU or its architecture.

    `versions` are those of Python and of packages, `settings` what the run was told, each as text.
    """

    date: str
    cores: int
    machine: str
    versions: Mapping[str, str]
    settings: Mapping[str, str]


def about(settings: Mapping[str, object], device: torch.device) -> Provenance:
    """The provenance of what this process makes, now, with `settings` on `device`."""
    return Provenance(
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        cores=usable_cores(),
        machine=torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine(),
        versions=package_versions(),
        settings={name: str(value) for name, value in settings.items()},
    )


def command_line(arguments: Sequence[str] | None = None) -> str:
    """The command that this process runs, as a shell takes it, without what addresses hold of passwords.

    >>> command_line(["treehead", "compare", "my photos", "--weights", "https://me:secret@host/file"])
    "treehead compare 'my photos' --weights https://…@host/file"
    """
    program, *rest = sys.argv if arguments is None else arguments
    return _PASSWORD.sub(lambda found: "…@" if found[0].endswith("@") else "…", shlex.join([Path(program).name, *rest]))
