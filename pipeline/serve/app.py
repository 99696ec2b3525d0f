"""What a served classifier answers: a page for people, JSON for programs, and a page that lists the interface."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from fastapi import FastAPI, Request
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException

from features.errors import DecodeError, OutputError
from pipeline.console import warn
from pipeline.release import release
from pipeline.report.predictions import Prediction
from pipeline.serve import interface
from pipeline.serve.batcher import Batcher, Seen
from pipeline.serve.corrections import Corrections
from pipeline.serve.limits import problem
from pipeline.serve.neighbours import Neighbours

PAGE = Path(__file__).parent / "page"

FILES = ("app.js", "engine.js", "style.css")
"""Of the page, besides index.html."""

MOST_FILES = 1000
"""Images of one request."""


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

    async def see(self, content: bytes) -> Seen:
        """Classify an image file, together with others that come meanwhile; raises DecodeError for what is none."""
        return await asyncio.wrap_future(self.batcher.submit(content))

    async def predict(self, name: str, content: bytes) -> Prediction:
        """What is said of an image file, or why nothing is."""
        try:
            seen = await self.see(content)
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
                label = str(form.get("label", ""))
        else:
            content, label = await request.body(), request.query_params.get("label", "")
            images = [("", content)] if content else []
        if not images:
            raise HTTPException(400, "no image came: send one as the body, or one or several as files of a form")
        return cls(images=images, label=label)

    @property
    def only(self) -> bytes:
        """The one image; raises HTTPException where there are several."""
        if len(self.images) > 1:
            raise HTTPException(400, f"{len(self.images)} images came: send one")
        return self.images[0][1]


def make_app(served: Served) -> FastAPI:
    """The application; each answer that is no page is JSON, {"error": a sentence} where something is wrong."""
    app = FastAPI(title="treehead", version=release(), docs_url=None, redoc_url=None, description=served.title)
    app.add_exception_handler(HTTPException, _refused)
    app.add_exception_handler(DecodeError, _no_image)
    app.add_exception_handler(OutputError, _not_kept)
    _add_pages(app)

    @app.get("/health", **interface.HEALTH)
    async def health() -> JSONResponse:
        told = {"status": "ready", "title": served.title, "classes": served.classes, "threshold": served.least or None}
        return JSONResponse({**told, "nearest": served.neighbours is not None})

    @app.post("/predict", **interface.PREDICT)
    async def predict(request: Request) -> JSONResponse:
        form = await Form.of(request)
        found = await asyncio.gather(*(served.predict(*image) for image in form.images))
        if all(each.error for each in found):
            return problem(400, found[0].error)
        return JSONResponse({"images": [each.to_json() for each in found]})

    @app.post("/nearest", **interface.NEAREST)
    async def nearest(request: Request) -> JSONResponse:
        if served.neighbours is None:
            raise HTTPException(404, "the table that the classifier learnt from is not at hand")
        seen = await served.see((await Form.of(request)).only)
        return JSONResponse({"nearest": await asyncio.to_thread(served.neighbours.nearest, seen.features)})

    @app.post("/correct", **interface.CORRECT)
    async def correct(request: Request) -> JSONResponse:
        form = await Form.of(request)
        if form.label not in served.classes:
            raise HTTPException(400, f"the label {form.label!r} came: expected one of {', '.join(served.classes)}")
        await served.see(form.only)  # raises for what is no image
        name, images = await asyncio.to_thread(served.corrections.keep, form.only, form.label)
        return JSONResponse({"image": name, "label": form.label, "images": images})

    return app


def _add_pages(app: FastAPI) -> None:
    for path, name in {"/": "index.html", **{f"/{name}": name for name in FILES}}.items():
        app.add_api_route(path, _file(name), include_in_schema=False)

    @app.get("/interface", include_in_schema=False)
    async def listed(request: Request) -> HTMLResponse:
        return HTMLResponse(interface.as_page(app.openapi(), str(request.url_for("predict"))))


def _file(name: str) -> Callable[[], Awaitable[FileResponse]]:
    async def file() -> FileResponse:
        return FileResponse(PAGE / name)

    return file


async def _refused(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    return problem(error.status_code, error.detail)


async def _no_image(_: Request, error: Exception) -> JSONResponse:
    return problem(400, str(error))


async def _not_kept(_: Request, error: Exception) -> JSONResponse:
    warn(str(error))  # it names a path, which is nobody else's business
    return problem(507, "the image could not be kept: whoever runs the server sees why")
