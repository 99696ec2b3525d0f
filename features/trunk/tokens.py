"""What a transformer has gathered after a block: its class token, alone or beside the mean of the patches.

The second is what the linear probes of DINOv2 and DINOv3 see (Oquab et al., 2023). Registers and distillation tokens
are in neither.
"""

from __future__ import annotations

import torch

CLS, CLS_MEAN = "cls", "cls_mean"

READINGS = (CLS, CLS_MEAN)
"""How the names of nodes end that are read from the tokens after a block, as `stage12.cls`."""


def read_tokens(tokens: torch.Tensor, reading: str, prefix: int = 1) -> torch.Tensor:
    """The class token, which is the first, of (n, tokens, d) as (n, d); CLS_MEAN makes (n, 2 d).

    `prefix` tokens come before those of the patches.

    >>> tokens = torch.tensor([[[1.0], [9.0], [2.0], [4.0]]])
    >>> read_tokens(tokens, "cls").tolist(), read_tokens(tokens, "cls_mean", prefix=2).tolist()
    ([[1.0]], [[1.0, 3.0]])
    """
    cls = tokens[:, 0]
    return cls if reading == CLS else torch.cat([cls, tokens[:, prefix:].mean(dim=1)], dim=1)
