"""Say what photographs show: python predict.py photo.jpg ...  It needs onnxruntime, numpy and pillow alone."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import numpy as np
import onnxruntime
from PIL import Image, ImageOps

MODEL = Path(__file__).with_name("model.onnx")


def read(path: str) -> Image.Image:
    """A photograph, upright, in RGB; on white where it is transparent."""
    image = ImageOps.exif_transpose(Image.open(path))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")


def prepared(image: Image.Image, recipe: dict[str, Any]) -> Image.Image:
    """The centre of a photograph as the network takes it: its shorter side resized, then cropped."""
    short, size = min(image.size), recipe["image_size"]
    width, height = (int(recipe["resize"] * side / short) for side in image.size)
    image = image.resize((width, height), Image.Resampling[recipe["interpolation"].upper()])
    left, top = round((width - size) / 2), round((height - size) / 2)
    return image.crop((left, top, left + size, top + size))


def described(path: str, session: onnxruntime.InferenceSession) -> str:
    """A photograph's class, and its three likeliest with their probabilities."""
    about = session.get_modelmeta().custom_metadata_map
    image, classes = read(path), json.loads(about["classes"])
    if about["input"] == "prepared":
        image = prepared(image, json.loads(about["card"])["trunks"][0])
    found: Any = session.run(["probabilities", "label"], {"images": np.asarray(image)[None]})
    shares, label = found[0][0], found[1][0]
    likely = ", ".join(f"{classes[place]} {shares[place]:.3f}" for place in np.argsort(-shares)[:3])
    return f"{path}\t{label}\t{likely}"


def main(paths: list[str]) -> None:
    """Print what each photograph shows."""
    session = onnxruntime.InferenceSession(str(MODEL), providers=["CPUExecutionProvider"])
    for path in paths:
        print(described(path, session))  # noqa: T201


if __name__ == "__main__":
    main(sys.argv[1:] or sys.exit(__doc__))
