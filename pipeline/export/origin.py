"""What a classifier learnt from, found again: the tables beside it, and their images."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from features.errors import SourceError, TableError
from features.sources.options import SourceOptions
from features.sources.source import Source
from features.storage import read_json
from features.table.images import ImagesOf
from features.table.joined import JoinedTable
from features.table.table import FeatureTable
from models.card import Card
from pipeline.errors import ExportError
from pipeline.inspection.finding import LISTING


def table_of(model: Path, card: Card) -> JoinedTable:
    """The tables that the classifier at `model` learnt from, in the folder that both were written to."""
    folder = _written_to(model) / "features"
    tables = [table for table in _tables_in(folder) if table.spec.trunk in card.trunks]
    for source in dict.fromkeys(table.spec.source_sha256 for table in tables):
        of_trunk = {table.spec.trunk: table for table in tables if table.spec.source_sha256 == source}
        if set(of_trunk) == set(card.trunks):
            joined = JoinedTable([of_trunk[trunk] for trunk in card.trunks])
            if joined.identity == card.table_identity:
                return joined
    raise ExportError(
        f"the table {card.table} that {model.name} learnt from is not in {folder}, and exports are held against the "
        "classifier on its images: export it where it was trained, or run that command again"
    )


def _written_to(model: Path) -> Path:
    """The folder that tables and classifiers were written to: OUT of OUT/models/<table>/<head>/<file>."""
    return model.absolute().parents[3]


def findings_of(model: Path, table: JoinedTable) -> list[str]:
    """What `inspect` or `compare` has found wrong with the images of a table, a sentence each."""
    names = tuple(f"{each.spec.folder_name}-" for each in table.tables)
    files = sorted((_written_to(model) / "inspect").glob(f"*/{LISTING}.json"))
    found: list[Any] = [read_json(file) for file in files if file.parent.name.startswith(names)]
    return [each["sentence"] for each in (found[0] if found else ())]


def _tables_in(folder: Path) -> Iterator[FeatureTable]:
    """Those that are complete."""
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        try:
            yield FeatureTable.open(path)
        except TableError:  # of another run that is not done yet, or of another release
            continue


def images_of(table: JoinedTable, dataset: str | None, data_dir: Path | None) -> Source:
    """The images of a table, from where it was made of them, or as a person says; raises ExportError for others."""
    made = ImagesOf.read(table.folder)
    asked = made.asked if made else SourceOptions()
    dataset = dataset or (made.dataset if made else "")
    if not dataset:
        raise ExportError(
            f"nothing says where the images of {table.folder.name} are, on which pixels are checked: give `dataset`"
        )
    told = ImagesOf.now(dataset, replace(asked, data_dir=data_dir or asked.data_dir))
    try:
        source = told.open()
    except SourceError as error:
        raise ExportError(
            f"pixels could not be checked, as the images are no longer found ({error}): give `dataset`"
        ) from error
    missing = table.index()["key"][lambda keys: ~keys.isin(source.items["key"])]
    if len(missing):
        raise ExportError(
            f"{told.dataset} lacks {len(missing):,} images of {table.folder.name} (first: {missing.iloc[0]}): give "
            "`dataset` those that the classifier learnt from"
        )
    return source
