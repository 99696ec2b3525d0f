"""A set of image Parquet files as the Hugging Face hub hands them out, or one such file.

Configs and splits are read from the folders and the files' names, classes from the schema's metadata.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from features.errors import SourceError, counted, first_line, some
from features.sources.columns import by_name, check_group, refuse_nested, roles_but_split
from features.sources.files import file_stamp
from features.sources.layout.tree import holds_data
from features.sources.layout.words import says_split
from features.sources.lists.values import group_names
from features.sources.names import clean_names
from features.sources.options import SourceOptions
from features.sources.parquet.columns import Columns, called_image, holds_images, image_columns, row_classes
from features.sources.parquet.files import PARQUET, SplitFiles, base_name, files_below, find_splits
from features.sources.parquet.rows import RowGroup, RowReader
from features.sources.source import UNLABELLED, OnListed, Source, listing, name_classes
from features.stores import name_of, opened

LISTED_AT_ONCE = 65_536


@dataclass(frozen=True, kw_only=True)
class _File:
    """One file: the name of its split, each row's class (None: no label) and group, its columns, its row groups."""

    path: Path
    name: str
    stamp: str
    labels: list[str | None]
    groups: list[str | None]
    columns: Columns
    row_groups: list[RowGroup]


def looks_like_hub(root: Path) -> bool:
    """Whether there are Parquet files of images, or Parquet files in a folder that has no other data.

    A file that cannot be read counts where it is called like a split.
    """
    files = files_below(root, PARQUET)
    alone = bool(files) and root.is_dir() and not holds_data(root, besides=PARQUET)
    return alone or any(_may_hold_images(path) for path in files)


def _may_hold_images(path: Path) -> bool:
    """Whether a file has a column of images, whatever else it has; one that names images in files is a list."""
    try:
        schema = pq.read_schema(opened(path))
    except (OSError, pa.ArrowException):
        return says_split(base_name(path))
    kinds = {field.name: field.type.value_type if pa.types.is_list(field.type) else field.type for field in schema}
    found = [name for name, kind in kinds.items() if holds_images(kind)]
    return bool(found) and (not any(by_name(schema.names, "path")) or any(map(called_image, found)))


def open_hub(root: Path, asked: SourceOptions, on_listed: OnListed) -> Source:
    """List the rows of every file of one config.

    Raises SourceError for several configs, files of another layout or with other class names than the first, labels
    that are no classes, or rows without a label among others that have one.
    """
    found = find_splits(root, files_below(root, PARQUET), asked.config)
    files = [_open_file(path, name, asked, on_listed) for name, paths in found.files.items() for path in paths]
    used, unlabelled = _labelled(files)
    classes, labels = _number(root, used)
    top = root.parent if root.is_file() else root
    names = [(file.path.relative_to(top).as_posix(), len(file.labels)) for file in used]
    keys = [f"{name}/{row:07d}" for name, rows in names for row in range(rows)]
    splits = [found.splits[file.name] if classes else "train" for file in used for _ in file.labels]
    return Source(
        name=root.resolve().stem if root.is_file() else name_of(root),
        classes=classes,
        items=listing(
            keys,
            splits,
            labels,
            [file.stamp for file in used for _ in file.labels],
            [group for file in used for group in file.groups],
        ),
        read=RowReader(top, [group for file in used for group in file.row_groups]).read,
        layout=_say(found, used, classes, unlabelled),
    )


def _open_file(path: Path, name: str, asked: SourceOptions, on_listed: OnListed) -> _File:
    try:
        with pq.ParquetFile(opened(path)) as file:
            _check_rows(path, file.metadata)
            groups = _groups_of_rows(path, file, asked.group_column)
            schema = file.schema_arrow
            if asked.group_column:
                schema = schema.remove(schema.get_field_index(asked.group_column))
            columns = image_columns(path, schema, roles_but_split(asked.columns))
            return _File(
                path=path,
                name=name,
                stamp=file_stamp(path),
                labels=_labels(path, file, columns, on_listed),
                groups=groups,
                columns=columns,
                row_groups=_row_groups(path, file, columns.image),
            )
    except (OSError, pa.ArrowException, ValueError, MemoryError) as error:  # text that is no UTF-8 is a ValueError
        raise SourceError(f"cannot read {path} ({first_line(error)}): fetch the file again") from error


def _check_rows(path: Path, metadata: pq.FileMetaData) -> None:
    """Raise SourceError for more rows than the file could hold images."""
    grouped = sum(metadata.row_group(group).num_rows for group in range(metadata.num_row_groups))
    if metadata.num_rows > path.stat().st_size or grouped != metadata.num_rows:
        raise SourceError(
            f"{path} claims {max(grouped, metadata.num_rows):,} rows in {path.stat().st_size:,} bytes: "
            "fetch the file again"
        )


def _groups_of_rows(path: Path, file: pq.ParquetFile, column: str) -> list[str | None]:
    """Each row's group, by the column that has them, if any."""
    check_group(str(path), file.schema_arrow.names, column)
    if not column:
        return [None] * file.metadata.num_rows
    refuse_nested(str(path), file.schema_arrow, {"group": column})
    return group_names(file.read(columns=[column]).column(0).to_pandas())


def _row_groups(path: Path, file: pq.ParquetFile, column: str) -> list[RowGroup]:
    groups = map(file.metadata.row_group, range(file.metadata.num_row_groups))
    return [
        RowGroup(path=path, number=number, rows=group.num_rows, size=group.total_byte_size, column=column)
        for number, group in enumerate(groups)
    ]


def _labels(path: Path, file: pq.ParquetFile, columns: Columns, on_listed: OnListed) -> list[str | None]:
    """Each row's class by name; raises SourceError for labels that are no classes or have no name."""
    rows = file.metadata.num_rows
    if not columns.label:
        on_listed(rows)
        return [None] * rows
    labels: list[str | None] = []
    for batch in file.iter_batches(LISTED_AT_ONCE, columns=[columns.label], use_threads=False):
        labels += row_classes(path, batch.column(0), columns)
        on_listed(len(batch))
    if len(labels) != rows:
        raise OSError(f"it holds {len(labels):,} labels for {rows:,} rows")
    return labels


def _labelled(files: list[_File]) -> tuple[list[_File], list[str]]:
    """The files to use, and what is said of splits left out because none of their rows has a label.

    All files are used where no row at all has one. Raises SourceError for rows without a label among others, and for
    files that name other classes.
    """
    strangers = [file.path for file in files if file.columns.classes != files[0].columns.classes]
    if strangers:
        raise SourceError(f"{strangers[0]} names other classes than {files[0].path}: expected one set of images")
    with_labels = {file.name for file in files if any(label is not None for label in file.labels)}
    used = [file for file in files if file.name in with_labels or not with_labels]
    for file in used if with_labels else []:
        missing = file.labels.count(None)
        if missing:
            raise SourceError(
                f"{file.path} has no label in {missing} of {len(file.labels)} rows: remove the file or label its rows"
            )
    left: Counter[str] = Counter()
    for file in files:
        left[file.name] += len(file.labels) if with_labels and file.name not in with_labels else 0
    return used, [f"{counted(rows, 'image')} of {name} without labels left out" for name, rows in left.items() if rows]


def _number(root: Path, files: list[_File]) -> tuple[tuple[str, ...], list[int]]:
    """Number the classes in the schema's order where it gives one, else in sorted order."""
    given = [label for file in files for label in file.labels if label is not None]
    if not given:
        return (), [UNLABELLED for file in files for _ in file.labels]
    known = list(files[0].columns.classes)
    order = known if set(given) <= set(known) else []
    clean = clean_names([*order, *given], str(root))
    return name_classes(clean[len(order) :], clean[: len(order)])


def _say(found: SplitFiles, files: list[_File], classes: tuple[str, ...], unlabelled: list[str]) -> str:
    """The line on how the images were found."""
    columns = files[0].columns
    parts = [
        *(name if name == split else f"{name} ({split})" for name, split in found.splits.items() if name),
        f"config {found.config}" if found.config else "",
        f"image in {columns.image}" if columns.image != "image" else "",
        f"label in {columns.label}" if columns.label not in ("", "label") else "",
        counted(len(files), "file"),
        counted(len({label for file in files for label in file.labels}), "class") if classes else "no labels",
    ]
    left = f"{some(found.left_out)} left out" if found.left_out else ""
    return "; ".join(filter(None, [", ".join(filter(None, parts)), *unlabelled, left]))
