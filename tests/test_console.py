from __future__ import annotations

import io
import os
import sys

import pytest
from rich.console import Console

from features.errors import OutputError
from pipeline import console
from pipeline.console import Screen, as_options, detail, fail, progress, remark, result, result_table, shown, warn

OPTIONS = ("--xgb.max-bin", "--regime", "--hybrid.parts", "--first-size", "--network.epochs", "--weights")
NAMES = ("head", "accuracy %", "95 % interval", "MB")
ROWS = [("xgb", "100.00", "89.57–100.00", "0.1"), ("linear", "98.50", "87.10–99.90", "12.5")]


@pytest.fixture(autouse=True)
def screen(monkeypatch: pytest.MonkeyPatch) -> Screen:
    """What is shown by a command that takes OPTIONS."""
    fresh = Screen(options=lambda: frozenset(OPTIONS))
    monkeypatch.setattr(console, "screen", fresh)
    return fresh


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("`xgb.max_bin=1` is out of range", "--xgb.max-bin 1 is out of range"),
        ("unknown `regime='a_b'`: give another `regime`", "unknown --regime a_b: give another --regime"),
        ("`hybrid.parts=()` came", "--hybrid.parts () came"),
        ("give `first_size`, or `weights=b=c`", "give --first-size, or --weights b=c"),
        ("`epochs=0` is out of range", "--network.epochs 0 is out of range"),
        ("the command has no `decoder=pillow`", "the command has no `decoder=pillow`"),
        ("cannot read a/`weights`.png or `weights`.png", "cannot read a/`weights`.png or `weights`.png"),
        ("nothing to translate, `$x y`", "nothing to translate, `$x y`"),
    ],
)
def test_settings_are_said_as_options(text: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert as_options(text) == said
    warn(text)
    fail(text)
    assert capsys.readouterr().err == f"! {said}\ntreehead: {said}\n"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a\x1b[31mb", r"a\x1b[31mb"),
        ("a\nb\tc\x07\x9b", r"a\nb\tc\x07\x9b"),
        ("photo\u202egpj.exe", r"photo\u202egpj.exe"),
        ("half \udce9", r"half \udce9"),
        ("Käfer, 猫, 👩‍🔬, می‌خواهم", "Käfer, 猫, 👩‍🔬, می‌خواهم"),
        ("[red]:smile:[/red]", "[red]:smile:[/red]"),
    ],
)
def test_what_would_steer_a_terminal_is_spelt_out(text: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert shown(text) == said
    for say in (remark, result, warn, fail):
        say(text)
    output = capsys.readouterr()
    assert output.out == f"{said}\n"
    assert output.err == f"{said}\n! {said}\ntreehead: {said}\n"
    result_table(("", "class"), [("x", text)], title=text)
    assert capsys.readouterr().out.splitlines()[::2] == [said, f"x  {said}"]


def test_how_much_is_said(screen: Screen, capsys: pytest.CaptureFixture[str]) -> None:
    heard = []
    for screen.quiet, screen.verbose in ((True, False), (False, False), (False, True)):
        remark("remark")
        detail("detail")
        warn("warning")
        result("result")
        heard.append(capsys.readouterr())
    assert [each.err.split() for each in heard] == [
        ["!", "warning"],
        ["remark", "!", "warning"],
        ["remark", "detail", "!", "warning"],
    ]
    assert {each.out for each in heard} == {"result\n"}


class Terminal(io.StringIO):
    """A terminal that keeps what it is shown."""

    def isatty(self) -> bool:
        return True


def seen(monkeypatch: pytest.MonkeyPatch, columns: int) -> str:
    """A table of results on a terminal of so many columns."""
    terminal = Terminal()
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", terminal)
        patch.setenv("COLUMNS", str(columns))
        result_table(NAMES, ROWS)
    return terminal.getvalue()


@pytest.mark.parametrize("columns", [60, 40, 20, 8])
def test_no_figure_is_cut_on_a_narrow_terminal(columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    text = seen(monkeypatch, columns)
    assert all(cell in text for row in ROWS for cell in row)
    longest = max(len(cell) for row in ROWS for cell in row) + 3
    assert all(len(line) <= max(columns, longest) for line in text.splitlines())


def test_a_row_becomes_lines_where_the_table_is_too_wide(monkeypatch: pytest.MonkeyPatch) -> None:
    assert seen(monkeypatch, 38).splitlines()[:3] == [
        "xgb",
        "  accuracy % 100.00, 95 % interval",
        "  89.57–100.00, MB 0.1",
    ]


def test_what_is_piped_is_never_wrapped(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    image = f"{'long/' * 100}猫.png"
    result_table(("image", "class", "share"), [(image, "oak", "9.1%"), ("b.png", "a beech", "100.0%")], words=2)
    assert capsys.readouterr().out.splitlines() == [
        f"image{' ' * 501}  class     share",
        f"{image}  oak        9.1%",
        f"b.png{' ' * 501}  a beech  100.0%",
    ]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here")  # noqa: PTH110
def test_a_result_that_cannot_be_written(monkeypatch: pytest.MonkeyPatch) -> None:
    with open("/dev/full", "w") as full:  # noqa: PTH123
        monkeypatch.setattr(sys, "stdout", full)
        with pytest.raises(OutputError, match=r"cannot write the result .*: send it elsewhere"):
            result("text")
        full.write("what libraries still have to say")  # goes nowhere, instead of failing as Python ends


@pytest.mark.parametrize(("foreseen", "shows"), [(True, True), (False, False)])
def test_time_is_foretold_only_where_all_steps_will_be_made(
    foreseen: bool, shows: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    screen = io.StringIO()
    monkeypatch.setattr(console, "_stderr", Console(file=screen, force_terminal=True, width=80))
    with progress("xgb learns", 4, foreseen=foreseen) as advance:
        advance(1, "validation log-loss 0.1")
    assert ("-:--:--" in screen.getvalue().split("xgb learns")[-1].replace("0:00:00", "", 1)) is shows
    assert "log-loss" not in screen.getvalue()
