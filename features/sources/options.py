"""What is asked of an image source."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class SourceOptions:
    """What is asked of an image source; what is left open is read off the data set.

    Attributes:
        data_dir: Where the sets known by name lie, or are downloaded to.
        train_limit: Training images to take, each class in proportion; a validation split made from training is part of
            them.
        columns: Which columns of a list or of Parquet files hold what, where their names do not say so:
            path=id,label=breed,split=fold.
        config: Which of a Hugging Face set's configs (subsets) to take, where it has several.
        layout: What the top folders are, where that can be read in two ways: classes, or splits with classes in them.
    """

    data_dir: Path = Path("data")
    train_limit: int | None = None
    columns: str = ""
    config: str = ""
    layout: Literal["auto", "classes", "splits"] = "auto"
