"""What an extraction says of its time."""

from __future__ import annotations

import pytest
import torch

from features.timing import STAGES
from pipeline.costs import spent


@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize("stage", STAGES)
def test_whatever_stage_sets_the_pace_is_named_with_what_helps(
    stage: str, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.costs.peak_memory", lambda device: "1.0 GiB of memory")
    told = spent({stage: 9.0}, torch.device(device))
    assert f"{stage} 100%" in told
    assert f"; the bottleneck is {stage}: " in told
    assert told.endswith(" would help; at most 1.0 GiB of memory")
