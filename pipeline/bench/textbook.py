"""Extraction as tutorials write it, kept as they do, to be measured against: DataLoader, transforms, a CSV file."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms
from torchvision.models import AlexNet, alexnet

from features.sources.source import Source
from features.trunk.spec import TrunkSpec

v1: Any = transforms  # it has no types

BATCH_IMAGES = 64


class _Images(Dataset[torch.Tensor]):
    """A source's images through the transforms that go with the trunk's weights."""

    def __init__(self, source: Source, spec: TrunkSpec) -> None:
        self._source = source
        self._rows = source.items.index.tolist()
        self._transform = v1.Compose(
            [
                v1.Resize(spec.resize),
                v1.CenterCrop(spec.image_size),
                v1.ToTensor(),
                v1.Normalize(spec.mean, spec.std),
            ]
        )

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, position: int) -> torch.Tensor:
        payload = self._source.read(self._rows[position])
        image = Image.fromarray(payload) if isinstance(payload, np.ndarray) else Image.open(io.BytesIO(payload))
        tensor: torch.Tensor = self._transform(image.convert("RGB"))
        return tensor


def tutorial_network(device: torch.device) -> AlexNet:
    """AlexNet as tutorials load it."""
    network: AlexNet = alexnet(weights=None).eval().to(device)
    return network


def extract_as_tutorials_do(
    source: Source, spec: TrunkSpec, network: AlexNet, device: torch.device, csv: Path | None
) -> None:
    """AlexNet's pooled features of every image in float32, appended to `csv` batch by batch where that is given."""
    with torch.no_grad():
        for images in DataLoader(_Images(source, spec), batch_size=BATCH_IMAGES):
            features = network.avgpool(network.features(images.to(device))).flatten(1).cpu().numpy()
            if csv:
                pd.DataFrame(features).to_csv(csv, mode="a", header=False, index=False)
