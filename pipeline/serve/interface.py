"""The interface for programs: what OpenAPI says of it, and a page that lists it and loads nothing from elsewhere."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from markupsafe import Markup

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


def _route(summary: str, answer: dict[str, object], **others: object) -> dict[str, Any]:
    """What FastAPI is told of a route."""
    answers: dict[int, dict[str, Any]] = {200: {"description": "OK", "content": _json(answer)}}
    if others:
        refusals = {400: "No image, or one that cannot be read", 413: "Too many bytes"}
        answers |= {status: {"description": said, "content": _json(_PROBLEM)} for status, said in refusals.items()}
    return {"summary": summary, "responses": answers, "openapi_extra": others}


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

HEALTH = _route(
    "Whether it runs, and what it is",
    _object(
        status=_TEXT,
        title=_TEXT,
        classes=_list(_TEXT),
        threshold={"type": ["number", "null"], "description": "The probability below which no class is named"},
        nearest={"type": "boolean", "description": "Whether /nearest can be asked"},
    ),
)

PREDICT = _route("Classify one image or several", _object(images=_list(_PREDICTED)), **_body())

NEAREST = _route(
    "The training images whose features are nearest to an image's",
    _object(nearest=_list(_object(name=_TEXT, label=_TEXT, picture={**_TEXT, "description": "A data: URI"}))),
    **_body(),
)

CORRECT = _route(
    "Keep an image as one of a class, in a list that --dataset takes",
    _object(image=_TEXT, label=_TEXT, images={"type": "integer", "description": "How many are kept by now"}),
    **_body(label={**_TEXT, "description": "One of the classes; beside an image alone, a parameter of the address"}),
)

_PAGE = Markup(
    '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>The interface for programs</title>'
    '<meta name="viewport" content="width=device-width, initial-scale=1"><link rel="icon" href="data:,">'
    '<link rel="stylesheet" href="style.css"></head><body><header><h1>The interface for programs</h1><p>{what}. '
    'Read by programs: <a href="openapi.json">openapi.json</a>. <a href="./">Back to the page</a></p></header>'
    "<main><pre>curl -F image=@photo.jpg {address}</pre><dl>{routes}</dl></main></body></html>"
)

_ROUTE = Markup("<dt><code>{method} {path}</code> {summary}</dt><dd><p>{takes}</p><ul>{answers}</ul></dd>")

_ANSWER = Markup("<li>{status}: {description}<pre>{schema}</pre></li>")


def as_page(openapi: Mapping[str, Any], address: str) -> str:
    """The page that lists what `openapi` describes, `address` being where images are sent to."""
    routes = Markup("").join(_routes(openapi))
    return _PAGE.format(what=openapi["info"]["description"], address=address, routes=routes)


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
