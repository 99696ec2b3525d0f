"""The split that a folder's or a file's name says: train, seg_train, Test_Data, trainset, val2017, fold_3."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence

from features.errors import SourceError
from features.sources.source import SPLITS

SPLIT_WORDS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev", "eval", "evaluation"), "validation"),
    **dict.fromkeys(("test", "testing"), "test"),
}
"""What a split is called, and which it is."""

AFFIXES = "sets?|data|datasets?|images?|imgs?|pictures?|pics|photos?|folder|dir|files?|split|subset|x|raw|copy"
"""Words beside a split's that change nothing; train_small, with any other, is a split of its own."""

FOLD_WORDS = frozenset({"fold", "folds", "kfold", "cv", "split", "partition"})

WITHOUT_LABELS = re.compile("unlabell?ed|unlab|unsup|extras?|preds?|predict|predictions?|inference|unknown|samples?")
"""Words for folders of images that have no labels."""

NO_CLASS = re.compile(
    rf"{AFFIXES}|parts?|batch(es)?|chunks?|shards?|archives?|volumes?|masks?|labels?|annotations?|segmentations?|trimaps?"
)
"""Words for parts of a set, and for what is said of its images."""

_MASKS = re.compile("masks?|labels?|annotations?|segmentations?|trimaps?")
_IMAGES = re.compile("images?|imgs?|photos?|pictures?|raw")

_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+|[^\W\d_a-zA-Z]+")
_JOINED = re.compile(rf"({'|'.join(sorted(SPLIT_WORDS, key=len, reverse=True))})({AFFIXES})")


def splits_of(names: Sequence[str]) -> dict[str, str]:
    """Those of `names` that are splits, each with the split it is.

    >>> splits_of(["seg_train", "seg_test", "seg_pred"])
    {'seg_train': 'train', 'seg_test': 'test'}
    >>> splits_of(["fold1", "fold2", "fold10"])
    {'fold1': 'train', 'fold2': 'validation', 'fold10': 'test'}
    >>> splits_of(["train", "train_small", "Test (1)"])
    {'train': 'train', 'Test (1)': 'test'}
    """
    parsed = {name: parse(name) for name in names}
    plain = {name: split for name, (split, more) in parsed.items() if split and not more}
    if "train" in plain.values():
        return plain
    alike: dict[tuple[str, ...], dict[str, str]] = defaultdict(dict)
    for name, (split, more) in parsed.items():
        if split and more:
            alike[more][name] = split
    pairs = [group for group in alike.values() if "train" in group.values() and len(set(group.values())) > 1]
    numbers = {name: number for name in names if (number := fold_number(name)) is not None}
    return {**plain, **pairs[0]} if len(pairs) == 1 else plain or fold_splits(numbers)


def parse(name: str) -> tuple[str | None, tuple[str, ...]]:
    """The split that a name says, or None, and what words are left that may make it another split."""
    words = [part for word in _words(name) for part in _apart(word)]
    splits = [word for word in words if word in SPLIT_WORDS]
    if len(splits) != 1:
        return None, ()
    left = (word for word in words if word not in SPLIT_WORDS and not re.fullmatch(rf"{AFFIXES}|\d+", word))
    return SPLIT_WORDS[splits[0]], tuple(left)


def fold_number(name: str) -> int | None:
    """The number of a fold by its name, or None.

    >>> fold_number("Fold 3"), fold_number("cv_fold_0"), fold_number("folder 3")
    (3, 0, None)
    """
    words = _words(name)
    numbers = [int(word) for word in words if word.isdecimal()]
    rest = {word for word in words if not word.isdecimal()}
    return numbers[0] if len(numbers) == 1 and rest and rest <= FOLD_WORDS else None


def fold_splits(numbers: dict[str, int]) -> dict[str, str]:
    """The split of each of several numbered folds, none for one: of each fold all is one split, as it is alike.

    With three or more the last is test and the one before it validation, of two the second is test.
    """
    order = sorted(set(numbers.values()))
    if len(order) < 2:
        return {}
    held_out = {order[-1]: "test"} | ({order[-2]: "validation"} if len(order) > 2 else {})
    return {name: held_out.get(number, "train") for name, number in numbers.items()}


def says_split(name: str) -> bool:
    """Whether a name is that of a split or of a fold."""
    return parse(name)[0] is not None or fold_number(name) is not None


def refuse_twice(where: str, given: dict[str, str]) -> None:
    """Raise SourceError where two names are the same split, but for folds."""
    for split in SPLITS:
        names = [name for name, each in given.items() if each == split and fold_number(name) is None]
        if len(names) > 1:
            raise SourceError(f"{where} has {' and '.join(names)}, all of them {split}: keep one of them, or join them")


def says_no_labels(name: str) -> bool:
    """Whether a folder's name says that its images have no labels."""
    return any(WITHOUT_LABELS.fullmatch(word) for word in _words(name))


def are_parts(names: Sequence[str]) -> bool:
    """Whether folders are no classes by their names: images beside masks, or parts that differ by a number.

    >>> are_parts(["images", "masks"]), are_parts(["HAM_part_1", "HAM_part_2"]), are_parts(["c0", "c1"])
    (True, True, False)
    """
    words = [[word for word in _words(name) if not word.isdecimal()] for name in names]
    alike = len(names) > 1 and len(set(map(tuple, words))) == 1
    return bool(names) and all(words) and all((any if alike else all)(map(NO_CLASS.fullmatch, each)) for each in words)


def masks_among(names: Sequence[str]) -> list[str]:
    """Of folders beside one another those of masks and annotations, where others hold the images."""
    plain = {name: _words(name) for name in names}
    has_images = any(len(words) == 1 and _IMAGES.fullmatch(words[0]) for words in plain.values())
    return [name for name, words in plain.items() if has_images and len(words) == 1 and _MASKS.fullmatch(words[0])]


def says_nothing(name: str) -> bool:
    """Whether a lone folder of this name in a split (images, unknown) is no class: its images have no labels."""
    return says_no_labels(name) or all(re.fullmatch(AFFIXES, word) for word in _words(name) or [""])


def _words(name: str) -> list[str]:
    return [word.lower() for word in _WORD.findall(name)]


def _apart(word: str) -> Iterable[str]:
    joined = _JOINED.fullmatch(word)
    return joined.groups() if joined else (word,)
