"""The table and the images that an export is held against: those that its classifier learnt from."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from features.errors import SourceError
from features.sources.options import SourceOptions
from features.sources.source import Source
from features.storage import read_json
from features.table.images import ImagesOf
from features.table.joined import JoinedTable
from models.card import Card
from pipeline.beside import find_table, results_of
from pipeline.errors import ExportError
from pipeline.inspection.finding import LISTING


def table_of(model: Path, card: Card) -> JoinedTable:
    """The tables that the classifier at `model` learnt from; raises ExportError where they are not there."""
    table = find_table(model, card)
    if table is None:
        raise ExportError(
            f"the table {card.table} that {model.name} learnt from is not in {results_of(model) / 'features'}, and "
            "exports are held against the classifier on its images: export it where it was trained, or run that "
            "command again"
        )
    return table


def findings_of(model: Path, table: JoinedTable) -> list[str]:
    """What `inspect` or `compare` has found wrong with the images of a table, a sentence each."""
    names = tuple(f"{each.spec.folder_name}-" for each in table.tables)
    files = sorted((results_of(model) / "inspect").glob(f"*/{LISTING}.json"))
    found: list[Any] = [read_json(file) for file in files if file.parent.name.startswith(names)]
    return [each["sentence"] for each in (found[0] if found else ())]


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
