"""The main path in surroundings that are not the developers': a process each, on a few images."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.conftest import ROOT, write_images

PROGRAM = """
import glob, sys
{before}
from pipeline.cli import app, run_app
for command in sys.argv[1:]:
    sys.argv[1:] = [(glob.glob(word) or [word])[0] for word in command.split()]
    run_app(app)
"""

SMALL = "--backbone squeezenet1_1 --weights random --image-size 32 --pool avg --device cpu"
OUT = "o?b=c%20d:e~"
MAIN_PATH = (
    f"features photos {SMALL} --out {OUT}",
    f"compare photos {SMALL} --heads knn --out {OUT}",
    "predict */models/*/*/knn.joblib photos/oak/200.png --csv",
)

NAMELESS = """
import pwd
def nobody(uid):
    raise KeyError(f"getpwuid(): uid not found: {uid}")
pwd.getpwuid = nobody
"""
NOT_LINUX = """
import os, signal
del os.sched_getaffinity, signal.SIGHUP
sys.modules["resource"] = sys.modules["fcntl"] = None
from pathlib import Path
whole = Path.read_text
def read_text(path, *args, **kwargs):
    if path.parts[:2] == ("/", "proc"):
        raise FileNotFoundError(2, "No such file or directory", str(path))
    return whole(path, *args, **kwargs)
Path.read_text = read_text
"""


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """What differs: the environment (None unsets), a program that comes `before` ours, streams that are closed."""

    environment: Mapping[str, str | None] = field(default_factory=dict)
    before: str = ""
    closed: str = ""


NO_NAME = dict.fromkeys(("USER", "LOGNAME", "LNAME", "USERNAME", "HOME"))

PLACES = {
    "a user without a name or a home": Surroundings(environment=NO_NAME, before=NAMELESS),
    "a home that cannot be written": Surroundings(environment={"HOME": "/proc/none", "XDG_CACHE_HOME": None}),
    "ASCII": Surroundings(environment={"LANG": "C", "LC_ALL": "C", "PYTHONIOENCODING": "ascii", "PYTHONUTF8": None}),
    "latin-1": Surroundings(environment={"PYTHONIOENCODING": "latin-1"}),
    "a screen of no kind": Surroundings(environment={"TERM": "dumb", "COLUMNS": "0", "LINES": "x", "NO_COLOR": "1"}),
    "closed standard input": Surroundings(closed="<&-"),
    "closed standard error": Surroundings(closed="2>&-"),
    "no Linux": Surroundings(before=NOT_LINUX),
    "warnings as errors of a seeded Python": Surroundings(environment={"PYTHONHASHSEED": "1", "PYTHONWARNINGS": "d"}),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photographs of two classes, one of which has a name that is not ASCII."""
    folder = tmp_path_factory.mktemp("surroundings")
    for name, colour in {"café": "red", "oak": "green"}.items():
        for start in (0, 100, 200):
            write_images(folder / "made", colour, 6, start)
        (folder / "made").rename(folder / f"photos-{colour}")
        (folder / "photos").mkdir(exist_ok=True)
        (folder / f"photos-{colour}").rename(folder / "photos" / name)
    return folder


def treehead(folder: Path, *commands: str, place: Surroundings) -> subprocess.CompletedProcess[str]:
    """Run commands in one process of its own, at `place`."""
    changed = {**os.environ, "PYTHONPATH": str(ROOT), "TORCH_HOME": str(folder / "hub"), **place.environment}
    environment = {name: value for name, value in changed.items() if value is not None}
    program = PROGRAM.format(before=place.before)
    shell = ["sh", "-c", f'exec "$@" {place.closed}', "sh", sys.executable, "-c", program, *commands]
    return subprocess.run(shell, cwd=folder, env=environment, capture_output=True, check=False, encoding="latin-1")


@pytest.mark.slow
@pytest.mark.parametrize("name", PLACES)
def test_the_main_path(name: str, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "photos").symlink_to(folder / "photos")
    said = treehead(tmp_path, *MAIN_PATH, place=PLACES[name])
    assert (said.returncode, "Traceback" in said.stderr) == (0, False), said.stderr
    assert re.search(r"^knn .*\d\.\d", said.stdout, re.MULTILINE)
    assert re.search(r"^photos/oak/200.png,(oak|caf.+),\d", said.stdout, re.MULTILINE)
    (report,) = tmp_path.glob("*/compare/*/report.html")
    assert report.parts[-4] == OUT
    assert report.read_text(encoding="utf-8").count("<section") == 10


@pytest.mark.parametrize("command", ["--help", "--version", "compare --help"])
@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_help_in_a_narrow_encoding(command: str, encoding: str, tmp_path: Path) -> None:
    said = treehead(tmp_path, command, place=Surroundings(environment={"PYTHONIOENCODING": encoding}))
    assert (said.returncode, said.stderr) == (0, "")
    assert re.search(r"treehead|\d\.\d\.\d", said.stdout)


@pytest.mark.parametrize(("closed", "heard"), [(">&-", "0.1"), (">&- 2>&-", ""), ("<&- >&- 2>&-", "")])
def test_results_go_to_standard_error_where_standard_output_is_closed(closed: str, heard: str, tmp_path: Path) -> None:
    said = treehead(tmp_path, "--version", place=Surroundings(closed=closed))
    assert said.returncode == 0
    assert said.stderr.startswith(heard)
    assert "Traceback" not in said.stderr


def test_folders_that_are_not_there(tmp_path: Path) -> None:
    missing = Surroundings(environment={"TMPDIR": str(tmp_path / "missing")})
    said = treehead(tmp_path, "features photos", place=missing)
    assert (said.returncode, said.stderr.count("\n")) == (2, 1)
    assert f"TMPDIR={tmp_path / 'missing'} is no folder that can be written to" in said.stderr
    gone = Surroundings(before="import os, shutil\nos.mkdir('gone')\nos.chdir('gone')\nos.rmdir('../gone')")
    said = treehead(tmp_path, "features photos", place=gone)
    assert (said.returncode, said.stderr.count("\n")) == (2, 1)
    assert "the folder that this was started in is gone: change to one that exists" in said.stderr


WAITING = """
import signal, tempfile, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # whatever the tests themselves were started with
signal.signal(signal.SIGHUP, signal.SIG_DFL)
import pipeline.console
from contextlib import contextmanager
@contextmanager
def starting(what):
    with tempfile.TemporaryDirectory(dir="."):
        print("begun", flush=True)
        time.sleep(60)
    yield
pipeline.console.starting = starting
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize(
    ("command", "line"), [("features", "and the same command goes on from there"), ("predict a b", "interrupted")]
)
def test_a_signal_unwinds(number: signal.Signals, command: str, line: str, tmp_path: Path) -> None:
    program = [sys.executable, "-c", PROGRAM.format(before=WAITING), command]
    settings = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        program, cwd=tmp_path, env=settings, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout
        assert process.stdout.readline() == "begun\n"
        process.send_signal(number)
        _, said = process.communicate(timeout=30)
    assert process.returncode == 128 + number
    assert said.rstrip().endswith(line)
    assert list(tmp_path.iterdir()) == []


def test_wrong_names_are_refused_before_anything_heavy_is_imported(tmp_path: Path) -> None:
    program = PROGRAM.format(before="import atexit\natexit.register(lambda: print('torch' in sys.modules))")
    for command, message in {
        "compare --heads xgb,forest": "unknown head 'forest'",
        "features --backbone restnet18": "unknown backbone 'restnet18'",
        "finetune no/such/folder": "unknown data set 'no/such/folder': there is no such file or folder",
    }.items():
        said = subprocess.run(
            [sys.executable, "-c", program, command],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert (said.returncode, said.stdout) == (2, "False\n")
        assert message in said.stderr
