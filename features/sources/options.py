"""What is asked of an image source."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

FOLDER, NEAR = "folder", "near"
"""What `group` may be besides the name of a column."""


@dataclass(frozen=True, kw_only=True)
class SourceOptions:
    """What is asked of an image source; what is left open is read off the data set.

    Attributes:
        data_dir: Where the sets known by name lie, or are downloaded to.
        train_limit: Training images to take, each class in proportion; a validation split made from training is part of
            them.
        columns: Which columns of a list, of Parquet files or of tars hold what, where their names do not say so:
            path=id,label=breed,split=fold.
        config: Which of a Hugging Face set's configs (subsets) to take, where it has several.
        group: What says which images belong together and so stay in one split: `folder` (those of a sub-folder of a
            class), `near` (those that look nearly the same), or the name of a column of a list, of Parquet files or of
            tars.
        exclude: File of images to leave out, by their keys: a CSV or Parquet file with a column key, or one key a line.
        layout: What the top folders are, where that can be read in two ways: classes, or splits with classes in them.
    """

    data_dir: Path = Path("data")
    train_limit: int | None = None
    columns: str = ""
    config: str = ""
    group: str = ""
    exclude: Path | None = None
    layout: Literal["auto", "classes", "splits"] = "auto"

    @property
    def group_column(self) -> str:
        """The column that says which images belong together; empty where none does."""
        return "" if self.group == NEAR else self.group
