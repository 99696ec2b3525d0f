"""ONNX graphs written node by node, and joined."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import onnx
from numpy.typing import NDArray
from onnx import TensorProto, compose, helper, numpy_helper

from features.trunk.engine import OPSET

ML, ML_OPSET = "ai.onnx.ml", 3

IR = 8
"""The version of ONNX's files that goes with these operators."""


class Graph:
    """A graph in the making: `add` an operator, have the name of what it gives."""

    def __init__(self) -> None:
        self._nodes: list[onnx.NodeProto] = []
        self._constants: list[onnx.TensorProto] = []

    def add(self, operator: str, *inputs: str, domain: str = "", **attributes: Any) -> str:
        """The output of `operator` of these inputs."""
        name = f"{operator}_{len(self._nodes)}"
        self._nodes.append(helper.make_node(operator, list(inputs), [name], domain=domain, **attributes))
        return name

    def both(self, operator: str, *inputs: str, **attributes: Any) -> tuple[str, str]:
        """As `add`, of an operator that gives two."""
        first = self.add(operator, *inputs, **attributes)
        self._nodes[-1].output.append(f"{first}_too")
        return first, f"{first}_too"

    def give(self, value: str, name: str) -> None:
        """Give a value out by that name."""
        self._nodes.append(helper.make_node("Identity", [value], [name]))

    def constant(self, array: NDArray[Any]) -> str:
        """The name of an array."""
        name = f"constant_{len(self._constants)}"
        self._constants.append(numpy_helper.from_array(array, name))
        return name

    def model(self, inputs: Sequence[onnx.ValueInfoProto], outputs: Sequence[onnx.ValueInfoProto]) -> onnx.ModelProto:
        """What has been added, as a model of its own."""
        return _model(self._nodes, inputs, outputs, self._constants)


def joined(models: Iterable[onnx.ModelProto], input_: str, outputs: Sequence[str]) -> onnx.ModelProto:
    """Models, each of which takes what those before it give by its names, from `input_` to `outputs`."""
    apart = [
        compose.add_prefix(model, f"{number}/", rename_inputs=False, rename_outputs=False)
        for number, model in enumerate(models)
    ]
    nodes = [node for model in apart for node in model.graph.node]
    constants = [constant for model in apart for constant in model.graph.initializer]
    given = {value.name: value for model in apart for value in (*model.graph.input, *model.graph.output)}
    return _model(nodes, [given[input_]], [given[name] for name in outputs], constants)


def renamed(model: onnx.ModelProto, names: Mapping[str, str]) -> onnx.ModelProto:
    """`model`, its inputs and outputs called otherwise from here on."""
    graph = model.graph
    for node in graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
    for value in (*graph.input, *graph.output):
        value.name = names.get(value.name, value.name)
    return model


def rows_of(name: str, columns: int | None = None, kind: int = TensorProto.FLOAT) -> onnx.ValueInfoProto:
    """What a value is that goes in or out: a row for each image, (n, columns)."""
    return helper.make_tensor_value_info(name, kind, ["n", columns])


def _model(
    nodes: Sequence[onnx.NodeProto],
    inputs: Sequence[onnx.ValueInfoProto],
    outputs: Sequence[onnx.ValueInfoProto],
    constants: Sequence[onnx.TensorProto],
) -> onnx.ModelProto:
    graph = helper.make_graph(nodes, "treehead", inputs, outputs, constants)
    opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(ML, ML_OPSET)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=IR, producer_name="treehead")


def as_bytes(model: Any) -> bytes:
    """What an ONNX file holds."""
    content: bytes = model.SerializeToString()
    return content
