"""What runs ONNX files in a browser: onnxruntime-web's WebAssembly backend, of one version, by npm.

Fetched once into a cache folder, and only taken while its files are those that were tested. No other backend of it.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Mapping
from pathlib import Path

from features.storage import file_sha256, replacing
from pipeline.errors import WebError

RUNTIME = "onnxruntime-web@1.30.0"

FILES: Mapping[str, str] = {
    "ort.wasm.bundle.min.mjs": "11e64bd8ffe11bd1a2a2f0d6275fdfbbba7262f0b76b99b53d228a8a22ef3d90",
    "ort-wasm-simd-threaded.wasm": "3398c10d07d229bd91b364548e130e0e51a8e5704b88c7c083ebbeb78842dee2",
}
"""The files that are used of the package's folder `dist`, 14 MB in all, and the SHA-256 of each."""

LICENSE = """onnxruntime-web (ort.wasm.bundle.min.mjs, ort-wasm-simd-threaded.wasm)

MIT License

Copyright (c) Microsoft Corporation

Permission is hereby granted, free of charge, to any person obtaining a copy
of this software and associated documentation files (the "Software"), to deal
in the Software without restriction, including without limitation the rights
to use, copy, modify, merge, publish, distribute, sublicense, and/or sell
copies of the Software, and to permit persons to whom the Software is
furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all
copies or substantial portions of the Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR
IMPLIED, INCLUDING BUT NOT LIMITED TO THE WARRANTIES OF MERCHANTABILITY,
FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE
AUTHORS OR COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER
LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM,
OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE
SOFTWARE.
"""
"""The package names its license and brings no text of it."""


def runtime_files() -> list[Path]:
    """The files of `FILES` in the cache folder, fetched by npm if they are not there or were damaged.

    Raises WebError where npm is missing, cannot fetch the package, or brings other files than were tested.
    """
    folder = _cache() / RUNTIME.replace("@", "-")
    if not all((folder / name).is_file() and file_sha256(folder / name) == FILES[name] for name in FILES):
        _fetch(folder)
    return [folder / name for name in FILES]


def _cache() -> Path:
    """Where what was fetched is kept, as the XDG base directory specification has it."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "treehead"


def _fetch(folder: Path) -> None:
    """Put the files in `folder`, once all of them have been found to be the right ones."""
    with tempfile.TemporaryDirectory() as scratch:
        with tarfile.open(_packed(Path(scratch))) as package:
            contents = {name: _content(package, name) for name in FILES}
        for name, content in contents.items():
            with replacing(folder / name) as file:
                file.write_bytes(content)


def _packed(folder: Path) -> Path:
    """The package as npm brings it into `folder`."""
    npm = shutil.which("npm")
    if npm is None:
        raise WebError(f"there is no npm, which brings {RUNTIME} for the page: install Node.js, or leave out `web`")
    command = [npm, "pack", RUNTIME, "--ignore-scripts", "--loglevel=error", "--fetch-retries=1"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    packed = next(folder.glob("*.tgz"), None)
    if done.returncode or packed is None:
        said = "; ".join(done.stderr.split("\n")[:2]) or f"exit code {done.returncode}"
        raise WebError(
            f"npm could not fetch {RUNTIME} for the page ({said}): try again where `npm pack {RUNTIME}` works, once; "
            f"it is kept in {_cache()} from then on"
        )
    return packed


def _content(package: tarfile.TarFile, name: str) -> bytes:
    """A file of the package's folder `dist`; raises WebError where it is not the one that was tested."""
    try:
        member = package.extractfile(f"package/dist/{name}")
    except KeyError:
        member = None
    content = member.read() if member else b""
    if (sha256 := hashlib.sha256(content).hexdigest()) != FILES[name]:
        raise WebError(
            f"{name} of {RUNTIME} has the SHA-256 {sha256[:12]}…, expected {FILES[name][:12]}…: do not use it, and "
            "see where npm gets its packages (`npm config get registry`)"
        )
    return content
