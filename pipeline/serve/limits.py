"""What stands before every request: who may ask, how large a body may be, and how much of bodies is held at once."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

MOST_BYTES = 2**26
"""Bytes of a request's body."""

HELD_BYTES = 2**28
"""Bytes of all bodies together that are held: who comes later waits."""

BODY_SECONDS = 60
"""In which a body must have come."""

OF_ALL = {"cross-origin-resource-policy": "same-origin", "x-content-type-options": "nosniff"}

OF_PAGES = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "referrer-policy": "no-referrer",
    "cache-control": "no-cache",
}
"""Headers of what is no JSON."""

_PORT = re.compile(r":\d+$")

TOO_LARGE = f"the request has over {MOST_BYTES / 1e6:.0f} MB: send fewer images at once, or smaller ones"


class Guarded:
    """ASGI: `app` behind these limits; `hosts` are the names that it may be asked by, where empty any.

    By those, and because a page of another server may not ask, no page that a person happens to visit reaches a
    classifier on loopback.
    """

    def __init__(self, app: ASGIApp, *, hosts: Collection[str]) -> None:
        self.app, self.hosts = app, hosts
        self.room = _Room(HELD_BYTES)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or refuse it before any of its body is read."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def sent(message: Message) -> None:
            if message["type"] == "http.response.start":
                told = MutableHeaders(scope=message)
                told.update(OF_ALL if told.get("content-type") == JSONResponse.media_type else OF_ALL | OF_PAGES)
            await send(message)

        headers = Headers(scope=scope)
        refused = self._refusal(headers)
        if refused:
            await refused(scope, receive, sent)
            return
        chunked = "transfer-encoding" in headers
        async with self.room.held(MOST_BYTES if chunked else int(headers.get("content-length", 0))):
            await self.app(scope, _limited(receive), sent)

    def _refusal(self, headers: Headers) -> JSONResponse | None:
        host, origin = headers.get("host", ""), headers.get("origin")
        if self.hosts and _PORT.sub("", host).strip("[]") not in self.hosts:
            return problem(403, f"the name {host!r} came: ask by one of {', '.join(self.hosts)}")
        if origin is not None and origin.partition("://")[2] != host:
            return problem(403, f"a page of {origin!r} asked: only this server's own may")
        if int(headers.get("content-length", 0)) > MOST_BYTES:
            return problem(413, TOO_LARGE)
        return None


def problem(status: int, sentence: str) -> JSONResponse:
    """An answer that says what is wrong."""
    return JSONResponse({"error": sentence}, status)


def _limited(receive: Receive) -> Receive:
    """`receive`, which raises HTTPException for a body that is too large or comes too slowly."""
    end, size, more = asyncio.get_running_loop().time() + BODY_SECONDS, 0, True

    async def limited() -> Message:
        nonlocal size, more
        if not more:
            return await receive()  # waits until the other side has gone
        try:
            async with asyncio.timeout_at(end):
                message = await receive()
        except TimeoutError as error:
            raise HTTPException(408, f"the request did not come within {BODY_SECONDS} s: send it again") from error
        size, more = size + len(message.get("body", b"")), message.get("more_body", False)
        if size > MOST_BYTES:
            raise HTTPException(413, TOO_LARGE)
        return message

    return limited


class _Room:
    """Room for so many bytes; who needs more than is free waits, first come, first served."""

    def __init__(self, free: int) -> None:
        self._free = free
        self._turn, self._freed = asyncio.Lock(), asyncio.Event()

    @asynccontextmanager
    async def held(self, size: int) -> AsyncIterator[None]:
        async with self._turn:
            while self._free < size:
                self._freed.clear()
                await self._freed.wait()
            self._free -= size
        try:
            yield
        finally:
            self._free += size
            self._freed.set()
