from __future__ import annotations

import logging

import pytest

from features.errors import SourceError
from features.sources.names import clean_names


@pytest.mark.parametrize(
    "name", [" cat", "cat ", "cat\u00a0", "\u200bcat", "\ufeffcat", "cat\0\0", "\u200e cat \u200b", "cat\t", "cat\r"]
)
def test_blanks_and_unseen_signs_at_the_ends_make_no_class(name: str, caplog: pytest.LogCaptureFixture) -> None:
    assert clean_names([name, "cat", "dog"], "list.csv") == ["cat", "cat", "dog"]
    assert "list.csv: " in caplog.text
    assert f"{' and '.join(map(ascii, sorted([name, 'cat'])))} are one class: blanks and Unicode forms" in caplog.text


def test_inner_blanks_are_one_and_unicode_is_composed(caplog: pytest.LogCaptureFixture) -> None:
    assert clean_names(["black \u00a0 cat", "cafe\u0301"], "here") == ["black cat", "caf\u00e9"]
    assert caplog.text == ""


@pytest.mark.parametrize("other", ["Cat", "c\u0430t", "\uff43at"])
def test_what_looks_alike_stays_apart_and_is_said(other: str, caplog: pytest.LogCaptureFixture) -> None:
    assert clean_names(["cat", other], "here") == ["cat", other]
    assert "are two classes that look alike: rename one if they mean the same" in caplog.text


@pytest.mark.parametrize("names", [["cat", "dog"], ["кот", "пёс"], ["γάτα", "σκύλος"], ["1", "2"]])
def test_nothing_is_said_of_names_that_differ(names: list[str], caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        assert clean_names(names, "here") == names
    assert caplog.text == ""


def test_a_name_of_blanks_alone_is_refused() -> None:
    with pytest.raises(SourceError, match=r"list.csv has no label in 2 of 3 rows \(first: row 2\): fill them in"):
        clean_names(["cat", " ", "\u200b"], "list.csv")
