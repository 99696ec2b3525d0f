"""What a served classifier answers: a page for people, JSON for programs, and a page that lists the interface."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from starlette.applications import Starlette
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from features.errors import DecodeError, OutputError
from pipeline.console import warn
from pipeline.report.predictions import Prediction
from pipeline.serve import interface
from pipeline.serve.batcher import Batcher, Seen
from pipeline.serve.corrections import Corrections
from pipeline.serve.limits import problem
from pipeline.serve.neighbours import Neighbours

PAGE = Path(__file__).parent / "page"

FILES = ("app.js", "engine.js", "style.css")
"""Of the page, besides index.html."""

POSTED = ("/predict", "/nearest", "/correct")

MOST_FILES = 1000
"""Images of one request."""

Endpoint = Callable[[Request], Awaitable[Response]]


@dataclass(frozen=True, kw_only=True)
class Served:
    """A classifier that answers; images of which no class is as likely as `least` are left open.

    `title` says what it is in a few words; `neighbours` is None where the table that it learnt from is not at hand.
    """

    title: str
    classes: tuple[str, ...]
    batcher: Batcher
    corrections: Corrections
    neighbours: Neighbours | None = None
    least: float = 0.0

    async def health(self, _: Request) -> JSONResponse:
        """Say what it is."""
        told = {"status": "ready", "title": self.title, "classes": self.classes, "threshold": self.least or None}
        return JSONResponse({**told, "nearest": self.neighbours is not None})

    async def predict(self, request: Request) -> JSONResponse:
        """Say of each image what `treehead predict --json` says; 400 where none of them could be read."""
        form = await Form.of(request)
        found = await asyncio.gather(*(self._prediction(*image) for image in form.images))
        if all(each.error for each in found):
            return problem(400, found[0].error)
        return JSONResponse({"images": [each.to_json() for each in found]})

    async def nearest(self, request: Request) -> JSONResponse:
        """Give the training images nearest to one."""
        if self.neighbours is None:
            raise HTTPException(404, "the table that the classifier learnt from is not at hand")
        seen = await self._seen((await Form.of(request)).only)
        return JSONResponse({"nearest": await asyncio.to_thread(self.neighbours.nearest, seen.features)})

    async def correct(self, request: Request) -> JSONResponse:
        """Keep an image as one of a class."""
        form = await Form.of(request)
        if form.label not in self.classes:
            raise HTTPException(400, f"the label {form.label!r} came: expected one of {', '.join(self.classes)}")
        await self._seen(form.only)  # raises for what is no image
        name, images = await asyncio.to_thread(self.corrections.keep, form.only, form.label)
        return JSONResponse({"image": name, "label": form.label, "images": images})

    async def openapi(self, _: Request) -> JSONResponse:
        """Describe the interface to programs."""
        return JSONResponse(interface.openapi(self.title))

    async def interface(self, request: Request) -> HTMLResponse:
        """Describe it to people."""
        return HTMLResponse(interface.as_page(interface.openapi(self.title), str(request.base_url)))

    async def _seen(self, content: bytes) -> Seen:
        """Classify an image file, together with others that come meanwhile; raises DecodeError for what is none."""
        return await asyncio.wrap_future(self.batcher.submit(content))

    async def _prediction(self, name: str, content: bytes) -> Prediction:
        try:
            seen = await self._seen(content)
        except DecodeError as error:
            return Prediction(image=name, error=str(error))
        return Prediction(image=name, classes=self.classes, probabilities=seen.probabilities, least=self.least)


@dataclass(frozen=True, kw_only=True)
class Form:
    """What a request holds: (name, content) of each image, and a label."""

    images: list[tuple[str, bytes]]
    label: str = ""

    @classmethod
    async def of(cls, request: Request) -> Form:
        """Images of a form, or a body that is one image; raises HTTPException where there is none."""
        if request.headers.get("content-type", "").startswith("multipart/form-data"):
            async with request.form(max_files=MOST_FILES) as form:
                files = [value for _, value in form.multi_items() if isinstance(value, UploadFile)]
                images = [(file.filename or "", await file.read()) for file in files]
                label = form.get("label")
        else:
            content, label = await request.body(), request.query_params.get("label", "")
            images = [("", content)] if content else []
        if not images:
            raise HTTPException(400, "no image came: send one as the body, or one or several as files of a form")
        return cls(images=images, label=label if isinstance(label, str) else "")

    @property
    def only(self) -> bytes:
        """The one image; raises HTTPException where there are several."""
        if len(self.images) > 1:
            raise HTTPException(400, f"{len(self.images)} images came: send one")
        return self.images[0][1]


def make_app(served: Served) -> Starlette:
    """The application; each answer that is no page is JSON, {"error": a sentence} where something is wrong."""
    answers: dict[str, Endpoint] = {
        "/health": served.health,
        "/predict": served.predict,
        "/nearest": served.nearest,
        "/correct": served.correct,
        "/openapi.json": served.openapi,
        "/interface": served.interface,
    }
    files = {"/": "index.html"} | {f"/{name}": name for name in FILES}
    routes = [Route(path, answer, methods=["POST"] if path in POSTED else ["GET"]) for path, answer in answers.items()]
    return Starlette(
        routes=routes + [Route(path, _file(name)) for path, name in files.items()],
        exception_handlers={
            HTTPException: _refused,
            DecodeError: _no_image,
            OutputError: _not_kept,
            ClientDisconnect: _gone,
        },
    )


def _file(name: str) -> Endpoint:
    async def file(_: Request) -> FileResponse:
        return FileResponse(PAGE / name)

    return file


async def _refused(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    return problem(error.status_code, error.detail)


async def _no_image(_: Request, error: Exception) -> JSONResponse:
    return problem(400, str(error))


async def _gone(_: Request, __: Exception) -> Response:
    return Response(status_code=400)  # which nobody reads


async def _not_kept(_: Request, error: Exception) -> JSONResponse:
    warn(str(error))  # it names a path, which is nobody else's business
    return problem(507, "the image could not be kept: whoever runs the server sees why")
