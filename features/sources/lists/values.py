"""What the columns of a list hold: paths, classes and splits, in the ways that lists write them."""

from __future__ import annotations

import logging
import re
from pathlib import Path

import pandas as pd

from features.errors import SourceError, some
from features.sources.columns import plain_name
from features.sources.layout.words import SPLIT_WORDS, fold_splits
from features.sources.names import clean_names

logger = logging.getLogger(__name__)

FLAGS = {"isvalid": ("train", "validation"), "istest": ("train", "test"), "istrain": ("test", "train")}
"""Columns of 0 and 1, and which split these are; fastai has the first."""

MOST_FOLDS = 20
"""More numbers than these in a column of splits are something else, such as specimens."""

MARKS = {**dict.fromkeys(("0", "0.0", "false"), 0), **dict.fromkeys(("1", "1.0", "true"), 1)}
"""How lists write no and yes."""

_FOLD = re.compile(r"(?:(?:fold|split|cv)[ _-]?)?(\d{1,9})(?:\.0*)?")  # -1 is no fold
_NUMBER = re.compile(r"([+-]?\d{1,18})(\.\d*)?")
_WHOLE = re.compile(r"^([+-]?\d+)\.0*$")


def texts(path: Path, column: pd.Series) -> list[str]:
    """A column as text; raises SourceError where a row has nothing."""
    gaps = column.index[column.isna()]
    if len(gaps):
        raise SourceError(
            f"{path} has no {column.name} in {len(gaps)} of {len(column)} rows (first: row {gaps[0] + 1}): "
            "fill them in or remove the rows"
        )
    return column.astype(str).tolist()


def group_names(column: pd.Series) -> list[str | None]:
    """Each row's group as text, 1.0 as 1; None where it has none."""
    names = column.astype(object).where(column.notna(), "").astype(str).str.strip()
    return [_WHOLE.sub(r"\1", name) or None for name in names.tolist()]


def class_names(path: Path, column: pd.Series) -> list[str]:
    """Each row's class, clean; 1.0 is 1. Raises SourceError for gaps, and for numbers that are no classes."""
    names = clean_names(texts(path, column), str(path))
    whole = _whole_numbers(path, set(names))
    return [whole[name] for name in names] if whole else names


def _whole_numbers(path: Path, names: set[str]) -> dict[str, str]:
    """What whole numbers written as 1.0 are called, where all are numbers and some are written so."""
    numbers = {name: number for name in names if (number := _NUMBER.fullmatch(name))}
    if len(numbers) < len(names) or not any(number[2] for number in numbers.values()):
        return {}
    fractions = sorted(name for name, number in numbers.items() if (number[2] or "").strip(".0"))
    if fractions:
        raise SourceError(f"{path} has fractions as labels ({some(fractions)}): expected classes")
    joined = sorted(name for name, number in numbers.items() if number[2] and number[1] in names)
    if joined:
        logger.warning("%s: %s are whole numbers, and one class each with these", path, some(joined))
    return {name: number[1] for name, number in numbers.items()}


def flagged(path: Path, rows: pd.DataFrame) -> list[str]:
    """Each row's class, of a column for each class; empty where columns hold more than 0 and 1.

    Raises SourceError for a row that has several classes, or none.
    """
    marks = rows.astype(str).apply(lambda column: column.str.strip().str.lower().map(MARKS))
    if marks.isna().to_numpy().any():
        return []
    wrong = marks.index[marks.sum(axis=1) != 1]
    if len(wrong):
        many = ", ".join(str(column) for column in rows if marks.loc[wrong[0], column]) or "none"
        raise SourceError(
            f"{path} has not one class in {len(wrong)} of {len(rows)} rows (first: row {wrong[0] + 1}, {many}), as "
            "multi-label lists have: expected one class an image"
        )
    return clean_names(marks.idxmax(axis=1).tolist(), str(path))


def says_splits(column: pd.Series) -> bool:
    """Whether a column, whatever it is called, holds the names of splits, train among them."""
    words = set(column.dropna().astype(str).str.strip().str.lower().unique()[: len(SPLIT_WORDS)])
    return bool(words) and words <= set(SPLIT_WORDS) and any(SPLIT_WORDS[word] == "train" for word in words)


def split_names(path: Path, column: pd.Series) -> tuple[list[str], str]:
    """Each row's split, and which folds are which, where it has folds; raises SourceError for unknown ones."""
    words = pd.Series(texts(path, column)).str.strip().str.lower()
    meaning, said = _meaning(str(column.name), list(words.unique()))
    unknown = [word for word in words.unique() if word not in meaning]
    if unknown:
        raise SourceError(
            f"{path} has the split {unknown[0]!r}: expected train, validation or test, or the numbers of folds"
        )
    return words.map(meaning).tolist(), said


def _meaning(name: str, words: list[str]) -> tuple[dict[str, str], str]:
    """What each word in a column of splits means, and which folds are held out, where it has folds."""
    if plain_name(name) in FLAGS:
        return {word: FLAGS[plain_name(name)][mark] for word, mark in MARKS.items()}, ""
    numbers = {word: int(number[1]) for word in words if (number := _FOLD.fullmatch(word))}
    if len(numbers) < len(words) or not 2 <= len(set(numbers.values())) <= MOST_FOLDS:
        return SPLIT_WORDS, ""
    meaning = fold_splits(numbers)
    fold = {split: numbers[word] for word, split in meaning.items()}
    return meaning, ", ".join(f"fold {fold[split]} is {split}" for split in ("test", "validation") if split in fold)
