from __future__ import annotations

import pytest

from features.errors import SourceError
from features.sources.columns import roles


def test_roles_are_read_with_or_without_blanks() -> None:
    assert roles("path=id, label = breed,split=fold") == {"path": "id", "label": "breed", "split": "fold"}


@pytest.mark.parametrize("columns", ["breed", "class=breed", "path=", "=id", "label=a,label=b"])
def test_what_is_no_role_is_refused(columns: str) -> None:
    with pytest.raises(SourceError, match=r"is not understood: expected path=…,label=…,split=…, each once at most"):
        roles(columns)
