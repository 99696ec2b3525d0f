"""Open a classifier, and serve it until a signal ends that; what runs then is finished."""

from __future__ import annotations

import logging
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from ipaddress import ip_address
from pathlib import Path

from features.errors import FeaturesError
from features.storage import mark_results
from models.card import Card, read_card
from pipeline.beside import find_table
from pipeline.classifier_config import ServeConfig
from pipeline.console import remark, result, warn
from pipeline.errors import ServeError
from pipeline.serve.batcher import Batcher
from pipeline.serve.corrections import FOLDER, LIST, Corrections
from pipeline.serve.neighbours import Neighbours, why_not
from pipeline.stages.predict import open_predictor

try:
    import uvicorn

    for _package in ("starlette", "python_multipart"):  # the latter is what forms are read with
        import_module(_package)
except ImportError as error:
    raise ServeError(f"serving needs {error.name}, which is not here: pip install 'treehead[serve]'") from error

from pipeline.serve.app import Served, make_app
from pipeline.serve.limits import Guarded

LOOPBACK = ("localhost", "127.0.0.1", "::1")

WAITING = 2048
"""Connections that may wait to be taken."""

GRACE_SECONDS = 60
"""In which what runs when a signal comes must be finished."""


def run_serve(model: Path, config: ServeConfig) -> None:
    """Serve the classifier at `model`, and print its address once it can be asked; a signal ends that.

    Raises ServeError for an address that cannot be listened at, and what opening a classifier does.
    """
    with _listening(config) as listener, opened(model, config) as served:
        _serve(served, listener, config)
    remark("stopped: what had been asked is answered")


@contextmanager
def opened(model: Path, config: ServeConfig) -> Iterator[Served]:
    """The classifier at `model`, which classifies as long as it is open."""
    predictor, card = open_predictor(model, config), read_card(model.with_suffix(".json"))
    mark_results(config.out)
    with Batcher(predictor.head, predictor.trunks, config.max_pixels) as batcher:
        yield Served(
            title=f"{card.head} on {card.table}",
            classes=card.classes,
            batcher=batcher,
            corrections=Corrections(config.out),
            neighbours=_neighbours(model, card),
            least=predictor.least,
        )


def _serve(served: Served, listener: socket.socket, config: ServeConfig) -> None:
    address, port = listener.getsockname()[:2]
    local = ip_address(address).is_loopback
    if not local:
        warn(f"listening at {address}: whoever reaches this machine can use the classifier and keep images on its disk")
    remark(f"corrected images: {config.out / FOLDER / LIST}; Ctrl-C stops it")
    result(f"http://{f'[{address}]' if ':' in address else address}:{port}")
    _show_errors()
    hosts = dict.fromkeys((*LOOPBACK, address, config.host)) if local else ()
    how = uvicorn.Config(
        Guarded(make_app(served), hosts=hosts),
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=GRACE_SECONDS,
    )
    with suppress(KeyboardInterrupt):  # uvicorn raises the signal again once it has obeyed it
        uvicorn.Server(how).run([listener])


def _listening(config: ServeConfig) -> socket.socket:
    """A socket at the address, taken before a classifier is loaded in vain."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(config.host, config.port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)  # without its protocol, asyncio would let answers wait 40 ms
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(WAITING)
        return listener
    except (OSError, UnicodeError) as error:  # the latter of a name that no host can have
        raise ServeError(
            f"{config.host}:{config.port} cannot be listened at ({getattr(error, 'strerror', None) or error}): choose "
            "another `port` or `host`"
        ) from error


def _neighbours(model: Path, card: Card) -> Neighbours | None:
    """The training images, where they can be looked up; else says why not."""
    try:
        table = find_table(model, card)
        reason = why_not(table) if table else "the table that it learnt from is not beside it"
        if table and not reason:
            return Neighbours(table)
    except FeaturesError as error:
        reason = str(error)
    remark(f"nearest training images are not shown: {reason}")
    return None


def _show_errors() -> None:
    """Show the traceback of what goes wrong by a bug; that somebody spoke no HTTP is not worth a line."""
    log = logging.getLogger("uvicorn.error")
    log.setLevel(logging.ERROR)
    log.addHandler(logging.StreamHandler())
    log.propagate = False
