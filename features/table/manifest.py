"""What a table is made of, and the manifest that closes it: which files it has, and what is in them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from features.errors import TableError
from features.storage import (
    FileRecord,
    Json,
    dataset_folder,
    digest,
    from_json,
    read_json,
    sealed,
    unsealed,
    write_json,
)
from features.trunk.spec import TrunkSpec

FORMAT = 4
"""Raised when the meaning of a table's content changes, so that older tables are not taken for newer ones."""

MANIFEST = "manifest.json"
SEAL = "manifest_sha256"

SHARD = re.compile(r"part-\d{5,}\.parquet")
"""What a shard is called. It is a plain name: a manifest cannot have a table read from elsewhere."""


@dataclass(frozen=True, kw_only=True)
class TableSpec:
    """What a table is made of; two tables with the same `fingerprint` are the same table.

    `source_sha256` covers every image's key, split, label, group and stamp (see `Source.digest`).
    """

    dataset: str
    classes: tuple[str, ...]
    source_sha256: str
    trunk: TrunkSpec
    dim: int

    @property
    def fingerprint(self) -> str:
        """SHA-256 (64 hex digits) of the table's format and of the spec, but for the name of the weights' file."""
        return digest({"format": FORMAT, "source": self.source_sha256, **self.without_source()})

    @property
    def stem(self) -> str:
        """`<dataset>-<backbone>-<node>`."""
        return dataset_folder(self.dataset, f"-{self.trunk.backbone}-{self.trunk.node}")

    @property
    def folder_name(self) -> str:
        """`<dataset>-<backbone>-<node>-<8 hex of the fingerprint>`."""
        return f"{self.stem}-{self.fingerprint[:8]}"

    def without_source(self) -> dict[str, Json]:
        """The spec for JSON, without which images there are, and what of the weights decides nothing."""
        content = self.to_json() | {"trunk": self.trunk.decisive()}
        del content["source_sha256"]
        return content

    def about_shards(self) -> dict[str, Json]:
        """What each shard says of itself; which images there are, and how the weights' file is called, is not in it."""
        return self.without_source() | {"format": FORMAT, "transfer_learning": self.trunk.pretrained}

    def to_json(self) -> dict[str, Json]:
        """A dictionary that JSON can hold; `storage.from_json` turns it back."""
        return asdict(self) | {"classes": list(self.classes), "trunk": self.trunk.to_json()}


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What closes a table: `rows` counts those of each split, `errors` what could not be read.

    `shards` has the record of each Parquet file by name, in the order of the rows; `ledger` is that of the ledger.
    """

    fingerprint: str
    transfer_learning: bool
    rows: Mapping[str, int]
    errors: int
    shards: Mapping[str, FileRecord]
    ledger: FileRecord
    spec: TableSpec

    @property
    def identity(self) -> str:
        """SHA-256 (64 hex digits) of all but the files' own; by it, what earlier releases learnt is found again."""
        sizes = {name: record.bytes for name, record in self.shards.items()}
        content = {**asdict(self), "shards": sizes, "spec": self.spec.to_json()}
        del content["ledger"]
        return digest(content)

    def write(self, folder: Path) -> None:
        """Declare the table in `folder` complete: each file that is named must be on the disk."""
        write_json(folder / MANIFEST, sealed({**asdict(self), "spec": self.spec.to_json()}, SEAL))

    @classmethod
    def read(cls, folder: Path) -> Manifest:
        """The manifest of the table in `folder`; raises TableError where it is missing, damaged or of another form."""
        path, content = folder / MANIFEST, _content(folder)
        if _is_of_earlier_release(content):
            raise TableError(f"{path} has no SHA-256 of its shards, as 0.1.0 wrote it: run features again, once")
        try:
            manifest = from_json(cls, unsealed(content, SEAL))
        except ValueError as error:
            raise _damaged(path, error) from error
        strange = [name for name in manifest.shards if not SHARD.fullmatch(name)]
        if strange or not manifest.shards:
            what = f"names {strange[0]!r}, expected part-00000.parquet …" if strange else "names no shards"
            raise TableError(f"{path} {what}: delete it and run again")
        return manifest

    @classmethod
    def find(cls, folder: Path) -> Manifest | None:
        """As `read`, but None where the table is to be closed anew: there is no manifest, or one of 0.1.0."""
        if not (folder / MANIFEST).exists() or _is_of_earlier_release(_content(folder)):
            return None
        return cls.read(folder)

    def check_spec(self, folder: Path, fingerprint: str | None) -> None:
        """Raise TableError unless the table is made of what the manifest says and, where given, has `fingerprint`."""
        if self.fingerprint != self.spec.fingerprint or fingerprint not in (None, self.fingerprint):
            raise TableError(
                f"{folder} was made with other settings (fingerprint {self.fingerprint[:8]}, expected "
                f"{(fingerprint or self.spec.fingerprint)[:8]}): delete it, or choose another `out`"
            )


def recorded_shards(folder: Path) -> Mapping[str, FileRecord]:
    """The record of each shard in `folder`, by name; none where no manifest says what they were."""
    try:
        return Manifest.read(folder).shards
    except TableError:
        return {}


def _content(folder: Path) -> Json:
    path = folder / MANIFEST
    try:
        return read_json(path)
    except OSError as error:
        raise TableError(f"{path} is missing, so {folder} is no complete feature table: run features first") from error
    except ValueError as error:
        raise _damaged(path, error) from error


def _damaged(path: Path, error: ValueError) -> TableError:
    return TableError(f"{path} is cut short or damaged ({error}): delete it and run again, finished shards are kept")


def _is_of_earlier_release(content: Json) -> bool:
    """Whether a manifest tells the size of each shard and nothing else, as 0.1.0 had it."""
    shards = content.get("shards") if isinstance(content, Mapping) and SEAL not in content else None
    return isinstance(shards, Mapping) and all(isinstance(size, int) for size in shards.values())
