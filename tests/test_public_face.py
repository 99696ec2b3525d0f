from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import treehead
from tests.conftest import ROOT, Installed

AS_EDITABLE = f"""
import sys
from importlib.machinery import PathFinder
from types import SimpleNamespace
find = lambda name, path=None, target=None: None if path else PathFinder.find_spec(name, [{str(ROOT)!r}])
sys.meta_path.append(SimpleNamespace(find_spec=find))
"""
"""What setuptools' finder does for an editable install: asked last, after every folder on sys.path."""


def run_script(folder: Path, program: str, *, packages: Path | None = ROOT) -> subprocess.CompletedProcess[str]:
    """Run a script in `folder` that finds treehead in `packages`, or only by what it does itself."""
    script = folder / "script.py"
    script.write_text(program)
    environment = os.environ | {"PYTHONPATH": str(packages or "")}
    command = [
        sys.executable,
        "-S",
        str(script),
    ]  # without site-packages, in which this checkout may be installed
    return subprocess.run(command, env=environment, check=False, capture_output=True, text=True)


def last_line(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 1, done.stdout + done.stderr
    return done.stderr.strip().splitlines()[-1]


def hidden(path: Path, package: str = "models") -> str:
    return (
        f"ImportError: {path} hides the package `{package}` that treehead installs: rename it, or start Python, and "
        "keep your script, in another folder"
    )


def test_importing_it_imports_nothing_heavy() -> None:
    program = "import sys, treehead; print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True, capture_output=True, text=True)
    loaded = set(done.stdout.split())
    assert "treehead" in loaded
    assert not loaded & {"torch", "numpy", "pandas", "sklearn", "xgboost", "features", "models", "pipeline"}


def test_every_name_that_it_lists_is_there() -> None:
    assert dir(treehead) == sorted(treehead.__all__)
    assert all(hasattr(treehead, name) for name in treehead.__all__)
    mistyped = "open_tabel"
    with pytest.raises(AttributeError, match=r"treehead has no 'open_tabel': expected one of Frozen.*open_table"):
        getattr(treehead, mistyped)


@pytest.mark.parametrize("package", ["features", "models", "pipeline"])
def test_a_package_beside_the_script_is_named(package: str, tmp_path: Path) -> None:
    (tmp_path / package).mkdir()
    (tmp_path / package / "__init__.py").touch()
    assert last_line(run_script(tmp_path, "import treehead")) == hidden(tmp_path / package, package)


def test_a_module_beside_the_script_is_named(tmp_path: Path) -> None:
    (tmp_path / "models.py").touch()
    assert last_line(run_script(tmp_path, "import treehead")) == hidden(tmp_path / "models.py")


def test_a_folder_of_weights_hides_nothing_of_a_regular_install(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    done = run_script(tmp_path, "import treehead, models; print(models.__file__)")
    assert done.stdout.strip() == str(ROOT / "models/__init__.py")


def test_a_folder_of_weights_hides_a_package_of_an_editable_install(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    done = run_script(tmp_path, AS_EDITABLE + "import treehead", packages=None)
    assert last_line(done) == hidden(tmp_path / "models")


def test_an_editable_install_is_found_where_nothing_hides_it(tmp_path: Path) -> None:
    done = run_script(tmp_path, AS_EDITABLE + "import treehead, models; print(models.__file__)", packages=None)
    assert done.stdout.strip() == str(ROOT / "models/__init__.py"), done.stderr


def test_another_module_that_is_already_imported_is_named(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "models.py").touch()
    program = (
        "import sys; sys.path.insert(0, sys.path[0] + '/elsewhere'); import models; del sys.path[0]; import treehead"
    )
    assert last_line(run_script(tmp_path, program)) == hidden(tmp_path / "elsewhere/models.py")


def test_a_module_made_by_hand_is_named(tmp_path: Path) -> None:
    program = "import sys, types; sys.modules['models'] = types.ModuleType('models'); import treehead"
    assert last_line(run_script(tmp_path, program)) == hidden(Path("sys.modules['models']"))


def test_a_link_to_the_checkout_hides_nothing(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(ROOT)
    done = run_script(tmp_path, "import treehead; print(treehead.__file__)", packages=tmp_path / "link")
    assert done.stdout.strip() == str(tmp_path / "link/treehead/__init__.py"), done.stderr


RIGHT_USE = """
from typing import assert_type
import numpy as np, treehead
from numpy.typing import NDArray
assert_type(treehead.load_classifier("xgb.joblib").classes_, tuple[str, ...])
assert_type(treehead.open_table("table").read("train").x, NDArray[np.float32])
assert_type(treehead.FrozenTrunk("resnet18", image_size=64).fit(["photo.jpg"]), treehead.FrozenTrunk)
assert_type(treehead.load_comparison("comparison").best, str)
assert_type(treehead.__version__, str)
"""

WRONG_USE = """
import treehead
treehead.open_table(3)
classes: list[str] = treehead.load_classifier("xgb.joblib").classes_
treehead.FrozenTrunk("resnet18", image_size="64")
treehead.open_tabel("table")
"""


@pytest.mark.slow
def test_the_wheel_holds_the_packages_and_no_more(installed: Installed) -> None:
    names = zipfile.ZipFile(installed.wheel).namelist()
    packages = {"treehead", "features", "models", "pipeline"}
    assert {name.partition("/")[0] for name in names if ".dist-info/" not in name} == packages
    assert {f"{package}/py.typed" for package in packages} <= set(names)
    weights = {f"features/trunk/bundled_weights/alexnet.{suffix}" for suffix in ("safetensors", "json", "md")}
    pages = {"report/templates/report.html", "serve/page/app.js", "serve/page/style.css", "web/page/worker.js"}
    assert weights | {f"pipeline/{page}" for page in pages} <= set(names)


@pytest.mark.slow
def test_mypy_sees_the_types_of_an_installed_wheel(installed: Installed, tmp_path: Path) -> None:
    (tmp_path / "right.py").write_text(RIGHT_USE)
    (tmp_path / "wrong.py").write_text(WRONG_USE)
    command = [sys.executable, "-m", "mypy", "--strict", "--python-executable", str(installed.python)]
    done = subprocess.run([*command, "right.py", "wrong.py"], cwd=tmp_path, check=False, capture_output=True, text=True)
    errors = [line for line in done.stdout.splitlines() if ": error: " in line]
    assert [line.partition(": error: ")[0] for line in errors] == [f"wrong.py:{number}" for number in (3, 4, 5, 6)]
    assert 'Argument 1 to "open_table" has incompatible type "int"; expected "str | Path"' in errors[0]
