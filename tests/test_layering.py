"""Imports run features ← models ← pipeline, never back; treehead, the public face, and benchmarks stand above."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MAY_IMPORT = {
    "features": {"features"},
    "models": {"features", "models"},
    "pipeline": {"features", "models", "pipeline"},
    "treehead": {"features", "models", "pipeline", "treehead"},
    "benchmarks": {"features", "models", "pipeline", "treehead", "benchmarks"},
}
MODULES = sorted(path for package in MAY_IMPORT for path in (ROOT / package).rglob("*.py"))


def imported_packages(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} has a relative import"
            names.add(node.module or "")
    return {name.partition(".")[0] for name in names}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_never_run_backwards(path: Path) -> None:
    package = path.relative_to(ROOT).parts[0]
    assert imported_packages(path) & set(MAY_IMPORT) <= MAY_IMPORT[package]


def test_a_backward_import_would_be_seen(tmp_path: Path) -> None:
    path = tmp_path / "module.py"
    path.write_text(
        "def late():\n    from pipeline.cli import main\n    import models.heads.head\n    import treehead\n"
    )
    assert imported_packages(path) == {"pipeline", "models", "treehead"}


def test_help_does_not_wait_for_torch() -> None:
    program = (
        "import sys, pipeline.cli\n"
        "print([name for name in ('torch', 'xgboost', 'pandas', 'optuna') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True, capture_output=True, text=True)
    assert done.stdout == "[]\n"


def test_modules_are_found() -> None:
    assert len(MODULES) > 20


def documented_modules(page: str) -> list[str]:
    """The modules that have a row in docs/architecture.md, by their paths: a heading names the folder."""
    found: list[str] = []
    folder = ""
    for line in page.splitlines():
        heading, row = re.fullmatch(r"#+ ([\w/]+/)", line), re.match(r"\| `(\w+\.py)` \|", line)
        folder = heading[1] if heading else folder
        found += [folder + row[1]] if row else []
    return found


def test_the_page_on_architecture_names_every_module_and_no_other() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    modules = [path.relative_to(ROOT).as_posix() for path in MODULES if not is_docstring(path)]
    assert sorted(documented_modules(page)) == sorted(modules)


def is_docstring(path: Path) -> bool:
    """Whether a module says what a package is, and nothing else."""
    return path.name == "__init__.py" and len(ast.parse(path.read_text(encoding="utf-8")).body) == 1
