"""A model as skops writes it: its parts as data, of types that whoever reads it can look at before they are made."""

from __future__ import annotations

import json
from io import BytesIO
from typing import Any
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

import skops.io

_SCHEMA = "schema.json"
_LEVEL = 1
"""Deflate's: numbers that have been learnt shrink little, whatever it is."""


def skops_of(model: Any) -> bytes:
    """The file, the same bytes for the same model: skops itself numbers objects by where they lie in memory."""
    loose = ZipFile(BytesIO(skops.io.dumps(model)))
    schema, files = json.loads(loose.read(_SCHEMA)), dict[str, str]()
    _renumber(schema, {}, files)
    content = BytesIO()
    with ZipFile(content, "w", ZIP_DEFLATED, compresslevel=_LEVEL) as file:
        for name, loose_name in files.items():
            file.writestr(_member(name), loose.read(loose_name), compresslevel=_LEVEL)
        file.writestr(_member(_SCHEMA), json.dumps(schema), compresslevel=_LEVEL)
    return content.getvalue()


def types_to_trust(content: bytes) -> list[str]:
    """The types in a file that skops makes only where whoever reads it trusts them, by name."""
    return sorted(skops.io.get_untrusted_types(data=content))


def _renumber(node: Any, numbers: dict[Any, int], files: dict[str, str]) -> None:
    """Number objects in the order in which they come, in place; `files` has by its new name each file of theirs."""
    if isinstance(node, list):
        for each in node:
            _renumber(each, numbers, files)
    elif isinstance(node, dict):
        if "__id__" in node:
            node["__id__"] = numbers.setdefault(node["__id__"], len(numbers))
        if "file" in node:
            name = f"{node['__id__']}.npy"
            files[name], node["file"] = node["file"], name
        for each in node.values():
            _renumber(each, numbers, files)


def _member(name: str) -> ZipInfo:
    member = ZipInfo(name)  # of 1980, whenever it is written
    member.compress_type = ZIP_DEFLATED
    return member
