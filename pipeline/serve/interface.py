"""The interface for programs: what OpenAPI says of it, and a page that lists it and loads nothing from elsewhere."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from markupsafe import Markup

from pipeline.release import release

_FILE = {"type": "string", "format": "binary"}

_NUMBER, _TEXT = {"type": "number"}, {"type": "string"}


def _object(**properties: object) -> dict[str, object]:
    return {"type": "object", "properties": properties}


def _list(items: object) -> dict[str, object]:
    return {"type": "array", "items": items}


def _body(**fields: object) -> dict[str, object]:
    """A form with images and `fields`, or an image alone."""
    form = {"schema": _object(image=_list(_FILE), **fields)}
    return {"requestBody": {"required": True, "content": {"multipart/form-data": form, "image/*": {"schema": _FILE}}}}


def _route(method: str, summary: str, answer: dict[str, object], **body: object) -> dict[str, Any]:
    """A path's entry."""
    refusals = {"400": "No image, or one that cannot be read", "413": "Too many bytes"} if body else {}
    answers = {"200": ("OK", answer)} | {status: (said, _PROBLEM) for status, said in refusals.items()}
    told = {status: {"description": said, "content": _json(schema)} for status, (said, schema) in answers.items()}
    return {method: {"summary": summary, **body, "responses": told}}


def _json(schema: object) -> dict[str, object]:
    return {"application/json": {"schema": schema}}


_PROBLEM = _object(error={**_TEXT, "description": "What came, what was expected, what to do"})

_PREDICTED = _object(
    image={**_TEXT, "description": "The file's name"},
    **{
        "class": {
            "type": ["string", "null"],
            "description": "without where too unsure to name one, as --at-least has it",
        }
    },
    probability={**_NUMBER, "description": "Of the likeliest class"},
    probabilities={"type": "object", "additionalProperties": _NUMBER, "description": "Of every class, calibrated"},
    error={**_TEXT, "description": "In place of all that, where the image could not be read"},
)

_PATHS = {
    "/health": _route(
        "get",
        "Whether it runs, and what it is",
        _object(
            status=_TEXT,
            title=_TEXT,
            classes=_list(_TEXT),
            threshold={"type": ["number", "null"], "description": "The probability below which no class is named"},
            nearest={"type": "boolean", "description": "Whether /nearest can be asked"},
        ),
    ),
    "/predict": _route("post", "Classify one image or several", _object(images=_list(_PREDICTED)), **_body()),
    "/nearest": _route(
        "post",
        "The training images whose features are nearest to an image's",
        _object(nearest=_list(_object(name=_TEXT, label=_TEXT, picture={**_TEXT, "description": "A data: URI"}))),
        **_body(),
    ),
    "/correct": _route(
        "post",
        "Keep an image as one of a class, in a list that --dataset takes",
        _object(image=_TEXT, label=_TEXT, images={"type": "integer", "description": "How many are kept by now"}),
        **_body(label={**_TEXT, "description": "One of the classes; beside an image alone, a part of the address"}),
    ),
}

_PAGE = Markup(
    '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>The interface for programs</title>'
    '<meta name="viewport" content="width=device-width, initial-scale=1"><link rel="icon" href="data:,">'
    '<link rel="stylesheet" href="style.css"></head><body><header><h1>The interface for programs</h1><p>{what}. '
    'Read by programs: <a href="openapi.json">openapi.json</a>. <a href="./">Back to the page</a></p></header>'
    "<main><pre>curl -F image=@photo.jpg {address}predict</pre><dl>{routes}</dl></main></body></html>"
)

_ROUTE = Markup("<dt><code>{method} {path}</code> {summary}</dt><dd><p>{takes}</p><ul>{answers}</ul></dd>")

_ANSWER = Markup("<li>{status}: {description}<pre>{schema}</pre></li>")


def openapi(title: str) -> dict[str, Any]:
    """What programs read of the interface to a classifier of this title; see https://spec.openapis.org/oas/v3.1.0."""
    return {"openapi": "3.1.0", "info": {"title": title, "version": release()}, "paths": _PATHS}


def as_page(openapi: Mapping[str, Any], address: str) -> str:
    """The page that lists what `openapi` describes, and says how a server at `address` is asked."""
    routes = Markup("").join(_routes(openapi))
    return _PAGE.format(what=openapi["info"]["title"], address=address, routes=routes)


def _routes(openapi: Mapping[str, Any]) -> Iterator[Markup]:
    for path, methods in openapi["paths"].items():
        for method, told in methods.items():
            takes = ", or ".join(told.get("requestBody", {}).get("content", {}))
            yield _ROUTE.format(
                method=method.upper(),
                path=path,
                summary=told["summary"],
                takes=f"Takes {takes}." if takes else "Takes nothing.",
                answers=Markup("").join(_answers(told["responses"])),
            )


def _answers(responses: Mapping[str, Any]) -> Iterator[Markup]:
    for status, told in responses.items():
        schema = told["content"]["application/json"]["schema"]
        shown = json.dumps(_example(schema), indent=2, ensure_ascii=False)
        yield _ANSWER.format(status=status, description=told["description"], schema=shown)


def _example(schema: Mapping[str, Any]) -> object:
    """An answer of this schema, each value told in words."""
    if "properties" in schema:
        return {name: _example(each) for name, each in schema["properties"].items()}
    if "items" in schema:
        return [_example(schema["items"])]
    if "additionalProperties" in schema:
        return {"…": _example(schema["additionalProperties"])}
    kind = schema["type"]
    said = kind if isinstance(kind, str) else " or ".join(kind)
    return f"{said}: {schema['description']}" if "description" in schema else said
