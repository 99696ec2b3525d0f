"""What a person sees: progress and remarks on standard error, results on standard output.

All of it goes through `shown`, so that no name of a file or a class steers a terminal.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
import textwrap
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from rich.cells import cell_len
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

from features.errors import OutputError
from models.networks.settings import NETWORK


@dataclass
class Screen:
    """What the running command shows: only warnings and results where `quiet`, more than usual where `verbose`.

    `options` gives those that the command takes; settings in messages become them.
    """

    quiet: bool = False
    verbose: bool = False
    options: Callable[[], frozenset[str]] = frozenset


screen = Screen()
"""Set where a command begins."""

_stderr = Console(stderr=True, highlight=False, soft_wrap=True, markup=False, emoji=False)

_STEERING = re.compile(r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""Control characters, ends of lines, marks that turn the direction of writing, and halves of characters."""

_SETTING = re.compile(r"(?<![^\s(])`(?P<name>[a-z_]\w*(\.\w+)*)(=(?P<value>[^`]*))?`(?=[,.;:)]*(\s|$))")
_QUOTES = "\"'"

_SPINNER = "line"  # rich's name for one that is ASCII

_GAP, _INDENT = "  ", "  "


def shown(text: str) -> str:
    r"""Text that is safe to show: what would steer a terminal is spelt out, an escape character as `\x1b`."""
    return _STEERING.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), text)


def as_options(text: str) -> str:
    """A message in which settings, which it has in backticks (`max_bin=1`), are options of the running command.

    What the command has no option for stays as it is, and so does a name that only looks like a setting.
    """
    return _SETTING.sub(_as_option, text)


def _as_option(setting: re.Match[str]) -> str:
    dashed = setting["name"].replace("_", "-")
    for option in (f"--{dashed}", f"--{NETWORK}.{dashed}"):
        if option in screen.options():
            return option if setting["value"] is None else f"{option} {setting['value'].strip(_QUOTES)}"
    return setting[0]


def accuracy_in_words(share: float) -> str:
    """A validation accuracy as it is shown."""
    return f"{share:.1%} of the validation images right"


def remark(text: str) -> None:
    """Say how things go, on standard error, unless it is to be quiet."""
    if not screen.quiet:
        _stderr.print(shown(text))


def detail(text: str) -> None:
    """Say what only those want to know who asked for more, on standard error."""
    if screen.verbose:
        remark(f"{_INDENT}{text}")


def warn(text: str) -> None:
    """Say what a person should not miss, on standard error."""
    _stderr.print(shown(f"! {as_options(text)}"), style="yellow")


def fail(text: str) -> None:
    """Say in one line why nothing came of it, on standard error."""
    _stderr.print(shown(f"treehead: {as_options(text)}"), style="red")


def result(text: str) -> None:
    """Print a line of results, on standard output; raises OutputError where it cannot be written."""
    result_text(shown(text) + "\n")


def result_prose(text: str) -> None:
    """Print a sentence of results, on standard output; on a terminal no word is broken at its edge."""
    room = _room(sys.stdout.isatty())
    result_text(textwrap.fill(shown(text), room, break_long_words=False, break_on_hyphens=False) + "\n")


def result_text(text: str) -> None:
    """Print results that a program may read and that `shown` has seen to, as they are; raises OutputError."""
    with _writing():
        sys.stdout.write(text)


def flush() -> None:
    """Write out what libraries have put on standard output; raises OutputError where it cannot be written."""
    result_text("")


def result_table(names: Sequence[str], rows: Sequence[Sequence[str]], *, title: str = "", words: int = 1) -> None:
    """Print a table of results, on standard output: the first `words` columns hold words, the others figures.

    On a terminal that is too narrow for it, each row becomes lines of its own, where nothing is cut; what goes to a
    file or another program is never wrapped. Raises OutputError where it cannot be written.
    """
    lines = table_lines(names, rows, words=words, room=_room(sys.stdout.isatty()))
    result_text("".join(f"{line}\n" for line in ([shown(title)] if title else []) + lines))


def result_rows(names: Sequence[str], rows: Iterable[Sequence[str]], *, widths: Sequence[int], words: int = 1) -> None:
    """As `result_table`, but each row is printed when it comes; no cell is wider than its column in `widths`."""
    folds = _width(widths) > _room(sys.stdout.isatty())
    if not folds:
        result(_row(names, widths, words))
    for row in rows:
        cells = [shown(cell) for cell in row]
        for line in _folded(names, cells, _room(sys.stdout.isatty())) if folds else [_row(cells, widths, words)]:
            result_text(f"{line}\n")


def remark_table(names: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Say in a table how things go, on standard error, unless it is to be quiet."""
    for line in table_lines(names, rows, words=1, room=_room(_stderr.is_terminal)):
        remark(line)


def table_lines(names: Sequence[str], rows: Sequence[Sequence[str]], *, words: int, room: int) -> list[str]:
    """The lines of a table, its first `words` columns words; rows of several lines where one has not `room`."""
    cells = [[shown(cell) for cell in row] for row in (names, *rows)]
    widths = [max(map(cell_len, column)) for column in zip(*cells, strict=True)]
    if _width(widths) <= room:
        return [_row(row, widths, words) for row in cells]
    return [line for row in cells[1:] for line in _folded(cells[0], row, room)]


def _width(widths: Sequence[int]) -> int:
    """How many columns a row takes whose cells have these widths."""
    return sum(widths) + len(_GAP) * (len(widths) - 1)


def _room(terminal: bool) -> int:
    """How many columns a line may have."""
    return shutil.get_terminal_size().columns if terminal else sys.maxsize


def _row(cells: Sequence[str], widths: Sequence[int], words: int) -> str:
    padding = [" " * (width - cell_len(cell)) for cell, width in zip(cells, widths, strict=True)]
    padded = [
        cell + space if number < words else space + cell
        for number, (cell, space) in enumerate(zip(cells, padding, strict=True))
    ]
    return _GAP.join(padded).rstrip()


def _folded(names: Sequence[str], cells: Sequence[str], room: int) -> list[str]:
    """A row by itself: its first cell, and below that each other one after the name of its column."""
    pairs = [f"{name} {cell}" for name, cell in zip(names[1:], cells[1:], strict=True) if cell]
    below = textwrap.wrap(
        ", ".join(pairs),
        max(room, 1),
        initial_indent=_INDENT,
        subsequent_indent=_INDENT,
        break_long_words=False,
        break_on_hyphens=False,
    )
    return [cells[0], *below] if cells[0] else below


def drop_output() -> None:
    """Send what is still to be written to standard output nowhere, so that Python does not fail over it at its end."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


@contextmanager
def _writing() -> Iterator[None]:
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        drop_output()
        raise OutputError(f"cannot write the result ({error.strerror}): send it elsewhere") from error


@contextmanager
def starting(what: str) -> Iterator[None]:
    """Show on a terminal that a command has begun, for as long as what it needs is loaded."""
    if screen.quiet or not _stderr.is_terminal:
        yield
        return
    with _stderr.status(shown(f"{what} …"), spinner=_SPINNER):
        yield


@contextmanager
def progress(
    what: str, total: int | None, *, foreseen: bool = True, beside_results: bool = False
) -> Iterator[Callable[[float, str], None]]:
    """Show a progress bar; yields a function of the steps just done and a few words on them, for `--verbose`.

    `foreseen`: whether all steps will be made, so that the time that is left can be told. `beside_results`: results are
    printed meanwhile, so that there is no bar on a screen that shows these.
    """
    columns = (
        SpinnerColumn(_SPINNER),
        TextColumn("{task.description}", markup=False),
        BarColumn(20),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        *([TimeRemainingColumn()] if foreseen else []),
        *([TextColumn("{task.fields[note]}", markup=False)] if screen.verbose else []),
    )
    off = screen.quiet or not _stderr.is_terminal or (beside_results and sys.stdout.isatty())
    bar = Progress(*columns, console=_stderr, transient=True, disable=off, redirect_stdout=False)
    with bar:
        task = bar.add_task(shown(what), total=total, note="")
        yield lambda steps, note: bar.update(task, advance=steps, note=shown(note))
