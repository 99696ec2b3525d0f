from __future__ import annotations

import pytest

from pipeline.console import as_options, fail, warn


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("`xgb.max_bin=1` is out of range", "--xgb.max-bin 1 is out of range"),
        ("unknown `regime='a_b'`: give another `regime`", "unknown --regime a_b: give another --regime"),
        ("`hybrid.parts=()` came", "--hybrid.parts () came"),
        ("give `first_size`, or `a=b=c`", "give --first-size, or --a b=c"),
        ("nothing to translate, `$x y`", "nothing to translate, `$x y`"),
    ],
)
def test_settings_are_said_as_options(text: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert as_options(text) == said
    warn(text)
    fail(text)
    assert capsys.readouterr().err == f"! {said}\ntreehead: {said}\n"
