"""Trunks with weights or arithmetic of less precision: smaller files, at a price that is measured."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

from features.trunk.exported import PREPARED
from features.trunk.trunk import Trunk
from models.export.classifier import Shrink
from pipeline.export.gate import Pixels

CALIBRATION_IMAGES = 200


def shrinking(precision: str, pixels: Pixels, keys: Sequence[str]) -> Shrink:
    """How trunks are made smaller: `fp16`, or `int8` as calibrated on the first of these images."""
    if precision == "fp16":
        return lambda _, model: _half(model)
    return lambda trunk, model: _int8(model, _Images(pixels, trunk, keys[:CALIBRATION_IMAGES]))


def _half(model: onnx.ModelProto) -> onnx.ModelProto:
    """Weights kept as float16 and computed with in float32, as on CPUs and in browsers few can do otherwise."""
    graph, kept = model.graph, list(model.graph.initializer)
    del graph.initializer[:]
    for constant in kept:
        if constant.data_type == TensorProto.FLOAT:
            name = f"{constant.name}/float16"
            graph.node.insert(0, helper.make_node("Cast", [name], [constant.name], to=TensorProto.FLOAT))
            constant = numpy_helper.from_array(numpy_helper.to_array(constant).astype(np.float16), name)
        graph.initializer.append(constant)
    return model


class _Images(CalibrationDataReader):
    """Training images, as a trunk takes them."""

    def __init__(self, pixels: Pixels, trunk: Trunk, keys: Sequence[str]) -> None:
        self._parts = self._prepared(pixels, trunk, keys)

    @staticmethod
    def _prepared(pixels: Pixels, trunk: Trunk, keys: Sequence[str]) -> Iterator[NDArray[np.uint8]]:
        for key in keys:
            image = pixels.of(key)
            yield image if pixels.prepared else pixels.square(image[0], trunk)

    def get_next(self) -> Any:
        image = next(self._parts, None)
        return None if image is None else {PREPARED: image}


def _int8(model: onnx.ModelProto, images: _Images) -> onnx.ModelProto:
    """Convolutions and dense layers in whole numbers of 8 bits, weights by channel."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "int8.onnx")
        quantize_static(
            model,
            path,
            images,
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            op_types_to_quantize=["Conv", "Gemm"],
        )
        return onnx.load(path)
