"""What a person typed, as the commands now take it: options by the names that they have now, and `~`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import fields

from models.heads.settings import XgbSettings
from pipeline.console import warn

_TREES = [each.name.replace("_", "-") for each in fields(XgbSettings)]
_OF_TREES = {f"--{name}": f"--{XgbSettings.head}.{name}" for name in _TREES}
_TRUNK = {"--compile": "--compiled"}
_SELECT = {"--select-node": "--select"}
_VIEWS = {
    "--least-area": "--min-area",
    "--most-stretch": "--max-stretch",
    "--most-degrees": "--max-degrees",
    "--mirrored": "--hflip",
}
_NETWORK = {old.replace("--", "--finetune."): new.replace("--", "--network.") for old, new in _VIEWS.items()}
RENAMED: dict[str, dict[str, str]] = {
    "features": _TRUNK,
    "xgb": _TRUNK | _SELECT | _OF_TREES,
    "compare": _TRUNK | _SELECT | _OF_TREES | _NETWORK | {"--finetune.": "--network."},
    "finetune": _VIEWS,
    "pretrain": _VIEWS,
}
"""By command, the options of the last release that have another name now; these go with the next one.

One that ends in a dot stands for all that begin with it, and the first that fits is taken.
"""


def as_now(arguments: list[str]) -> list[str]:
    """A command's arguments, options of RENAMED by the name that they have now; a line for each says so.

    In `--out=~/here` the home folder stands for `~`, as shells have it in `--out ~/here`.
    """
    renamed = RENAMED.get(arguments[0], {}) if arguments else {}
    return [_with_new_name(_at_home(argument), renamed) for argument in arguments]


def _at_home(argument: str) -> str:
    option, equals, value = argument.partition("=")  # text, as Path would rewrite what is no path
    return option + equals + os.path.expanduser(value) if option.startswith("--") else argument  # noqa: PTH111


def _with_new_name(argument: str, renamed: Mapping[str, str]) -> str:
    option, equals, value = argument.partition("=")
    for old, new in renamed.items():
        if option == old or (old.endswith(".") and option.startswith(old)):
            now = new + option.removeprefix(old)
            warn(f"{option} is now {now}: the old name goes with the next release")
            return now + equals + value
    return argument
