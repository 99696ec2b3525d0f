"""The page that runs a classifier without a server: what is in its folder, and what a person sees of it."""

from __future__ import annotations

import hashlib
import io
import json
import re
import shutil
import tarfile
from collections.abc import Iterator, Mapping
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest
from onnx import parser
from PIL import Image

from features.sources.manifests import open_manifest
from features.sources.options import SourceOptions
from pipeline.errors import WebError
from pipeline.web import runtime
from pipeline.web.folder import write_web
from tests.conftest import COLOURS, write_images

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

EVIL = "<b>blue</b>, or so"

CLASSES = ["red", "green", EVIL]

CONTENTS = {"run.mjs": b"export {};", "run.wasm": b"\0asm"}
"""What a small package has instead of the runtime."""


def a_model(path: Path, **told: str) -> Path:
    """An ONNX file that looks for the class whose colour an image has."""
    names = ", ".join(f'"{name}"' for name in CLASSES)
    model = parser.parse_model(f"""
    <ir_version: 9, opset_import: ["" : 18]>
    colours (uint8[n, h, w, 3] images) => (float[n, 3] probabilities, string[n] label)
    <int64[4] size = {{1, 3, 8, 8}}, float[3] hundredth = {{0.01, 0.01, 0.01}}, string[3] names = {{{names}}}>
    {{
      channels = Transpose <perm=[0, 3, 1, 2]> (images)
      small = Resize <mode="linear", antialias=1> (channels, , , size)
      numbers = Cast <to=1> (small)
      mean = ReduceMean <keepdims=0> (numbers, places)
      scaled = Mul (mean, hundredth)
      probabilities = Softmax <axis=1> (scaled)
      best = ArgMax <axis=1, keepdims=0> (probabilities)
      label = Gather (names, best)
    }}""".replace("string[3]", "int64[2] places = {2, 3}, string[3]", 1))
    metadata = {"classes": json.dumps(CLASSES), "input": "pixels", "licenses": "Weights: Apache-2.0", **told}
    onnx.helper.set_model_props(model, metadata)
    onnx.save(model, path)
    return path


