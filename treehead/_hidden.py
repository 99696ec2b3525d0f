"""Whether `features`, `models` and `pipeline` are those that treehead installs; looked up, not imported.

The names are common ones: Python takes a folder `models/` or a file `models.py` beside a person's script for ours.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

PACKAGES = ("features", "models", "pipeline")


def refuse_hidden(home: Path) -> None:
    """Raise ImportError where one of PACKAGES, which all lie in the folder `home`, is found elsewhere first."""
    for name in PACKAGES:
        found = _find(name)
        if found is not None and Path(found).resolve() != (home / name).resolve():
            raise ImportError(
                f"{found} hides the package `{name}` that treehead installs: rename it, or start Python, and keep your "
                "script, in another folder",
                name=name,
                path=found,
            )


def _find(name: str) -> str | None:
    """The folder or file that `import name` takes; None where there is none, which importing says well enough."""
    try:
        spec = find_spec(name)
    except ValueError:  # a program has made such a module itself
        return f"sys.modules[{name!r}]"
    if spec is None:
        return None
    return next(iter(spec.submodule_search_locations or ()), spec.origin)
