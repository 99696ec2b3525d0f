"""Train, validation and test, decided once. What a source does not give is taken from its training images."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import pandas as pd

from features.errors import SourceError
from features.sources.source import SPLITS

TEST_SHARE = 0.2
VALIDATION_SHARE = 0.1


def complete_splits(
    items: pd.DataFrame, train_limit: int | None, seed: int, splits: Sequence[str] = SPLITS
) -> pd.DataFrame:
    """Add those of `splits` that are missing, keep `train_limit` training images, and order rows by split and key.

    Without a test split, TEST_SHARE of training becomes one; then training is cut to `train_limit` images; then,
    without a validation split, VALIDATION_SHARE of what is left becomes one, so that the limit counts every labelled
    image that a classifier may learn from. Each choice hashes the image's key: adding images never moves old ones, but
    for a class's last training image, which stays where it is until there is another.

    >>> keys = [f"{number:04d}.jpg" for number in range(1000)]
    >>> items = pd.DataFrame({"key": keys, "split": "train", "label": 0})
    >>> complete_splits(items, None, seed=0)["split"].value_counts().to_dict()
    {'train': 703, 'test': 211, 'validation': 86}
    >>> complete_splits(items, 100, seed=0)["split"].value_counts().to_dict()
    {'test': 211, 'train': 92, 'validation': 8}
    """
    items = items.copy()
    if "test" in splits and not (items["split"] == "test").any():
        _move(items, "test", TEST_SHARE)
    if train_limit is not None:
        items = _limit_training(items, train_limit, seed)
    if "validation" in splits and not (items["split"] == "validation").any():
        _move(items, "validation", VALIDATION_SHARE)
    items["split"] = pd.Categorical(items["split"], categories=SPLITS, ordered=True)
    items = items.sort_values(["split", "key"])
    items["split"] = items["split"].astype(object)
    return items


def _move(items: pd.DataFrame, split: str, share: float) -> None:
    """Move about `share` of the training rows to `split`, in place; of each class, the one drawn highest stays."""
    train = items[items["split"] == "train"]
    draw = train["key"].map(lambda key: _uniform(f"{split}:{key}"))
    moves = (draw < share) & (draw < draw.groupby(train["label"]).transform("max"))
    items.loc[moves.index[moves], "split"] = split


def _limit_training(items: pd.DataFrame, limit: int, seed: int) -> pd.DataFrame:
    """Keep `limit` training rows, one of each class and then in proportion, chosen by a seeded hash of the key."""
    if limit < 2:
        raise SourceError(f"`train_limit={limit}` leaves nothing to learn from: give 2 or more")
    train = items[items["split"] == "train"]
    draw = train["key"].map(lambda key: _uniform(f"limit:{seed}:{key}"))
    by_class = draw.groupby(train["label"])
    # A class's rows spread evenly over (0, 1); the lowest `limit` of all then hold every class in proportion.
    rank = by_class.rank(method="first")
    order = pd.DataFrame({"more": rank > 1, "quantile": (rank - 0.5) / by_class.transform("size"), "draw": draw})
    order = order.sort_values(["more", "quantile", "draw"])
    dropped = order.index[limit:]
    return items.drop(index=dropped)


def _uniform(text: str) -> float:
    """A number in [0, 1) that depends on `text` alone."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") / 2**64
