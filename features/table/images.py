"""Where a table's images were when it was made, for who looks at them again; apart from the manifest, as timing is."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Self

from features.errors import OutputError
from features.locks import locked
from features.sources.named import KNOWN
from features.sources.options import SourceOptions
from features.sources.registry import open_source
from features.sources.source import Source
from features.storage import from_json, read_json, write_json
from features.stores import is_remote, place

FILE = "images.json"


@dataclass(frozen=True, kw_only=True)
class ImagesOf:
    """What `open_source` was asked for: the data set, by its name or its absolute path, and how."""

    dataset: str
    asked: SourceOptions

    @classmethod
    def now(cls, dataset: str, asked: SourceOptions) -> Self:
        """The same from any folder."""
        path = place(dataset)
        is_path = dataset.lower() not in KNOWN and not is_remote(path)
        found = str(path.resolve()) if is_path else dataset
        return cls(dataset=found, asked=replace(asked, data_dir=asked.data_dir.resolve()))

    @classmethod
    def read(cls, folder: Path) -> Self | None:
        """Those of the table in `folder`; None where nobody has said, or it cannot be read."""
        try:
            return from_json(cls, read_json(folder / FILE))
        except (OSError, ValueError):
            return None

    def write(self, folders: Sequence[Path]) -> None:
        """Say so in tables' folders, where they can be written to."""
        asked = {name: str(value) if isinstance(value, Path) else value for name, value in asdict(self.asked).items()}
        for folder in folders:
            if self.read(folder) != self:
                with suppress(OutputError), locked(folder):  # who has the lock clears what others leave half-written
                    write_json(folder / FILE, {"dataset": self.dataset, "asked": asked})

    def open(self) -> Source:
        """List them again; which split they are of is for the table to say. Raises SourceError."""
        return open_source(self.dataset, replace(self.asked, train_limit=None, group="", exclude=None), splits=())
