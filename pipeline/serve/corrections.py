"""Corrected answers, kept as labels: images, and a list of them that `--dataset` takes."""

from __future__ import annotations

import csv
from hashlib import sha256
from pathlib import Path
from threading import Lock

from features.errors import OutputError, first_line
from features.locks import locked
from features.sources.formats.headers import kind_of
from features.storage import check_writable, replacing

FOLDER, LIST = "corrected", "labels.csv"

HEADER = ["path", "label"]

_SUFFIX = {"JPEG": "jpg", "JPEG2000": "jp2", "TIFF": "tif", "HEIF": "heic"}
"""Of formats whose usual suffix is not their name."""


class Corrections:
    """The list below `out` and its images, each called by its own SHA-256: an image has one label, the last."""

    def __init__(self, out: Path) -> None:
        self._folder = out / FOLDER
        self._one_at_a_time = Lock()

    def keep(self, content: bytes, label: str) -> tuple[str, int]:
        """Keep an image as one of `label`; returns what it is called now, and how many are kept. Raises OutputError."""
        name = f"{sha256(content).hexdigest()[:16]}.{suffix_of(content)}"
        check_writable(self._folder)
        with self._one_at_a_time, locked(self._folder):
            rows = [row for row in self._rows() if row[:1] != [name]] + [[name, label]]
            if not (self._folder / name).exists():
                with replacing(self._folder / name) as scratch:
                    scratch.write_bytes(content)
            with replacing(self._folder / LIST) as scratch, scratch.open("w", encoding="utf-8", newline="") as file:
                csv.writer(file).writerows([HEADER, *rows])
        return name, len(rows)

    def _rows(self) -> list[list[str]]:
        """The list without its header, as people may have edited it; raises OutputError for what is no such list."""
        path = self._folder / LIST
        if not path.exists():
            return []
        try:
            with path.open(encoding="utf-8-sig", newline="") as file:
                header, *rows = [row for row in csv.reader(file) if row] or [HEADER]
        except (OSError, UnicodeError, csv.Error) as error:
            raise OutputError(f"{path} cannot be read ({first_line(error)}): save it as CSV in UTF-8") from error
        if header != HEADER:
            raise OutputError(f"{path} begins with {header}, expected {HEADER}: save it as it was, with commas")
        return rows


def suffix_of(content: bytes) -> str:
    """What the name of an image file ends in, without the dot."""
    kind = kind_of(content)
    return _SUFFIX.get(kind, kind.lower())
