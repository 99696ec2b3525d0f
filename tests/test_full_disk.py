"""A disk that takes no more, wherever something is written: one line, and what was there stays."""

from __future__ import annotations

import resource
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from features.errors import OutputError
from features.squares import Squares
from models.columns.workspace import Workspace
from tests.test_heads import toy_table
from tests.test_trainer import SETTINGS, squares, trained

assert squares  # a fixture


@contextmanager
def full(size: int) -> Iterator[None]:
    """No file grows beyond `size` bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_checkpoint_that_does_not_fit_leaves_the_one_before(squares: Squares, tmp_path: Path) -> None:
    checkpoint = tmp_path / "checkpoints" / "checkpoint.pt"
    trained(squares, checkpoint, replace(SETTINGS, epochs=1))
    before = checkpoint.read_bytes()
    with (
        full(2000),
        pytest.raises(OutputError, match=r"cannot write .*checkpoint.pt \(File too large\): free"),
    ):
        trained(squares, checkpoint)
    assert checkpoint.read_bytes() == before
    assert list(checkpoint.parent.iterdir()) == [checkpoint]
    assert len(trained(squares, checkpoint).history) == SETTINGS.epochs


def test_rows_that_cannot_be_put_aside_name_the_folder(
    tmp_path: Path, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with (
        full(100),
        pytest.raises(OutputError, match=rf"aside in {tmp_path} \(File too large\): .*TMPDIR"),
    ):
        workspace.store(toy_table(), "train", np.arange(5))


def test_no_folder_for_temporary_files_at_all(
    tmp_path: Path, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(tempfile, "_candidate_tempdir_list", lambda: [str(tmp_path / "absent")])
    with pytest.raises(OutputError, match=r"aside in any folder .* \(No usable temporary directory"):
        workspace.store(toy_table(), "train", np.arange(5))
