"""Say what photographs show: python predict.py photo.jpg ...  It needs onnxruntime, numpy and pillow alone."""

import json
import os
import sys
from pathlib import Path
from typing import Any

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import numpy as np
import onnxruntime
from PIL import Image, ImageOps


def read(path: str) -> Image.Image:
    """A photograph, upright, in RGB; on white where it is transparent."""
    image = ImageOps.exif_transpose(Image.open(path))
    if image.mode == "F":
        raise ValueError("pixels are floating-point numbers: save the image with 8 or 16 bits")
    if image.mode.startswith("I"):  # 16 bits, of which Pillow would keep what is below 256
        image = Image.fromarray(np.rint(np.asarray(image).clip(0, 65535) / 257).astype(np.uint8))
    if image.has_transparency_data:
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA"))
    return image.convert("RGB")


def prepared(image: Image.Image, recipe: dict[str, Any]) -> Image.Image:
    """The centre of a photograph as the network takes it: its shorter side resized, then cropped."""
    short, size = min(image.size), recipe["image_size"]
    width, height = (int(recipe["resize"] * side / short) for side in image.size)
    image = image.resize((width, height), Image.Resampling[recipe["interpolation"].upper()])
    left, top = round((width - size) / 2), round((height - size) / 2)
    return image.crop((left, top, left + size, top + size))


def main(paths: list[str]) -> int:
    """Print each photograph's class, and its three likeliest with their probabilities; 2 where one cannot be read."""
    session = onnxruntime.InferenceSession(
        str(Path(__file__).with_name("model.onnx")), providers=["CPUExecutionProvider"]
    )
    about, code = session.get_modelmeta().custom_metadata_map, 0
    classes, recipe = json.loads(about["classes"]), json.loads(about["card"])["trunks"][0]
    for path in paths:
        try:
            image = prepared(read(path), recipe) if about["input"] == "prepared" else read(path)
            found: Any = session.run(["probabilities"], {"images": np.asarray(image)[None]})
        except Exception as error:  # of damaged images nearly any
            print(f"{path} could not be read: {error}", file=sys.stderr)  # noqa: T201
            code = 2
        else:
            likely = [(classes[place], found[0][0][place]) for place in np.argsort(-found[0][0])[:3]]
            print(path, likely[0][0], ", ".join(f"{name} {share:.3f}" for name, share in likely), sep="\t")  # noqa: T201
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]) if sys.argv[1:] else __doc__)
