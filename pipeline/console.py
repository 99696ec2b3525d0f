"""What a person sees: progress and remarks on standard error, results on standard output."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from features.errors import OutputError

_stderr = Console(stderr=True, highlight=False, soft_wrap=True, markup=False)
_stdout = Console(highlight=False, markup=False)

_SETTING = re.compile(r"`(?P<name>[\w.]+)(=(?P<value>[^`]*))?`")
_QUOTES = "\"'"


def as_options(text: str) -> str:
    """A message in which settings, which it has in backticks (`max_bin=1`), are options of the command line."""
    return _SETTING.sub(_as_option, text)


def _as_option(setting: re.Match[str]) -> str:
    option = "--" + setting["name"].replace("_", "-")
    return option if setting["value"] is None else f"{option} {setting['value'].strip(_QUOTES)}"


def remark(text: str) -> None:
    """Say how things go, on standard error."""
    _stderr.print(text)


def warn(text: str) -> None:
    """Say what a person should not miss, on standard error."""
    _stderr.print(f"! {as_options(text)}", style="yellow")


def fail(text: str) -> None:
    """Say in one line why nothing came of it, on standard error."""
    _stderr.print(f"treehead: {' '.join(as_options(text).split())}", style="red")


def result(text: str) -> None:
    """Print a result, on standard output; raises OutputError where it cannot be written."""
    with _writing():
        sys.stdout.write(text + "\n")


def result_table(table: Table) -> None:
    """Print a table of results, on standard output; raises OutputError where it cannot be written."""
    with _writing():
        _stdout.print(table)


@contextmanager
def _writing() -> Iterator[None]:
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OutputError(f"cannot write the result ({error.strerror}): send it elsewhere") from error


@contextmanager
def progress(what: str, total: int | None) -> Iterator[Callable[[float, str], None]]:
    """Show a progress bar; yields a function of the steps just done and a few words to stand beside the bar."""
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}", markup=False),
    )
    with Progress(*columns, console=_stderr, transient=True, disable=not _stderr.is_terminal) as bar:
        task = bar.add_task(what, total=total, note="")
        yield lambda steps, note: bar.update(task, advance=steps, note=note)
