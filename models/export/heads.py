"""Heads as ONNX, made of the arrays that they have learnt: features to each class's probability, and its name."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
import xgboost
from numpy.typing import NDArray
from onnx import TensorProto, helper

from features.trunk.exported import FEATURES
from models.columns.selection import select_best
from models.export.graph import ML, Graph, rows_of
from models.fitted import Arrays, below
from models.heads.boosted import base_margins
from models.heads.head import Classifier, Head
from models.heads.settings import HybridSettings, KnnSettings, LinearSettings, MlpSettings, XgbSettings

PROBABILITIES, LABEL = "probabilities", "label"
"""What comes out: (n, k) float32, and the name of the likeliest class, (n,)."""

LEAST = np.array(1e-30, np.float32)
"""The distance of what is the same image: no other neighbour has a vote beside it."""


def export_head(head: Classifier) -> onnx.ModelProto:
    """What `predict_proba` does: FEATURES, (n, d) float32, to PROBABILITIES and LABEL."""
    graph = Graph()
    if isinstance(head, Head):
        said, width = _said(graph, head, head.arrays_), head.model_.n_features_in_
    else:  # a network, whose features are its logits
        said, width = graph.add("Softmax", FEATURES, axis=1), len(head.classes_)
    names = graph.constant(np.array(head.classes_, object))
    labels = graph.add("Gather", names, graph.add("ArgMax", said, axis=1, keepdims=0), axis=0)
    graph.give(said, PROBABILITIES)
    graph.give(labels, LABEL)
    label = helper.make_tensor_value_info(LABEL, TensorProto.STRING, ["n"])
    return graph.model([rows_of(FEATURES, width)], [rows_of(PROBABILITIES, len(head.classes_)), label])


def _said(graph: Graph, head: Head, arrays: Arrays) -> str:
    """The probabilities of a head with these arrays."""
    if head.name == HybridSettings.head:
        return _mean(graph, head.parts, arrays)
    said: Callable[[Graph, Arrays], str] = {
        XgbSettings.head: _trees,
        LinearSettings.head: _linear,
        MlpSettings.head: _layers,
        KnnSettings.head: _neighbours,
    }[head.name]
    return said(graph, arrays)


def _mean(graph: Graph, parts: Sequence[Head], arrays: Arrays) -> str:
    """The mean of the parts' probabilities, as they are weighed."""
    weights = arrays["weights"] / arrays["weights"].sum()
    shares = [
        graph.add("Mul", _said(graph, part, below(part.name, arrays)), graph.constant(np.array(weight, np.float32)))
        for part, weight in zip(parts, weights, strict=True)
        if weight > 0
    ]
    return graph.add("Sum", *shares)


def _chosen(graph: Graph, arrays: Arrays, columns: int) -> str:
    """The best `columns` of the features, in the order that they have there."""
    places = select_best(arrays["places"], columns).get_support(indices=True)
    return graph.add("Gather", FEATURES, graph.constant(places), axis=1)


def _linear(graph: Graph, arrays: Arrays) -> str:
    weights = arrays["weights"]
    chosen = _chosen(graph, arrays, weights.shape[1])
    return graph.add("Softmax", _dense(graph, chosen, weights.T, arrays["bias"]), axis=1)


def _layers(graph: Graph, arrays: Arrays) -> str:
    last = len(below("coefs", arrays)) - 1
    value = _chosen(graph, arrays, len(arrays["coefs.0"]))
    for number in range(last + 1):
        value = _dense(graph, value, arrays[f"coefs.{number}"], arrays[f"intercepts.{number}"])
        value = graph.add("Relu", value) if number < last else graph.add("Softmax", value, axis=1)
    return value


def _dense(graph: Graph, value: str, weights: NDArray[np.float32], bias: NDArray[np.float32]) -> str:
    return graph.add("Gemm", value, graph.constant(np.ascontiguousarray(weights)), graph.constant(bias))


def _neighbours(graph: Graph, arrays: Arrays) -> str:
    """The nearest rows by angle, in principal components, each with a vote that is the inverse of its distance."""
    components, mean, rows = arrays["pca.components"], arrays["pca.mean"], arrays["rows"]
    chosen = _chosen(graph, arrays, components.shape[1])
    value = _unit(graph, _dense(graph, chosen, components.T, -(components @ mean)))
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    unit = (rows / np.where(lengths == 0, 1, lengths)).T
    likeness = graph.add("MatMul", value, graph.constant(np.ascontiguousarray(unit)))
    nearest, places = graph.both("TopK", likeness, graph.constant(arrays["neighbours"].reshape(1)), axis=1)
    distances = graph.add("Sub", graph.constant(np.array(1, np.float32)), nearest)
    votes = graph.add("Reciprocal", graph.add("Max", distances, graph.constant(LEAST)))
    votes = graph.add("Div", votes, graph.add("ReduceSum", votes, graph.constant(np.array([1])), keepdims=1))
    classes = np.eye(int(arrays["labels"].max()) + 1, dtype=np.float32)[arrays["labels"]]
    of_each = graph.add("Gather", graph.constant(classes), places, axis=0)
    column = graph.add("Unsqueeze", votes, graph.constant(np.array([1])))
    return graph.add("Squeeze", graph.add("MatMul", column, of_each), graph.constant(np.array([1])))


def _unit(graph: Graph, value: str) -> str:
    """Rows of length 1; of length 0 where they have none."""
    length = graph.add("ReduceL2", value, graph.constant(np.array([1])), keepdims=1)
    return graph.add("Div", value, graph.add("Max", length, graph.constant(LEAST)))


def _trees(graph: Graph, arrays: Arrays) -> str:
    """Chosen columns and discriminants through the trees; of two classes these give the odds of the second."""
    value = _chosen(graph, arrays, int(arrays["columns"]))
    if "discriminants" in arrays:
        weights = arrays["discriminants"]
        wide = graph.add("Cast", _chosen(graph, arrays, len(weights)), to=TensorProto.DOUBLE)
        exact = graph.add("MatMul", wide, graph.constant(weights.astype(np.float64)))
        value = graph.add("Concat", value, graph.add("Cast", exact, to=TensorProto.FLOAT), axis=1)
    booster = xgboost.Booster(model_file=bytearray(arrays["trees"]))
    margins = graph.add("TreeEnsembleRegressor", value, domain=ML, **ensemble(booster))
    if len(base_margins(booster)) > 1:
        return graph.add("Softmax", margins, axis=1)
    second = graph.add("Sigmoid", margins)
    return graph.add("Concat", graph.add("Sub", graph.constant(np.array(1, np.float32)), second), second, axis=1)


def ensemble(booster: xgboost.Booster) -> dict[str, Any]:
    """All trees of a booster as ONNX has them, with what each class's margin starts from.

    Features are never missing, so that it does not matter where these would go.
    """
    model = json.loads(booster.save_raw("json"))["learner"]["gradient_booster"]["model"]
    base = base_margins(booster)
    nodes: dict[str, list[Any]] = {name: [] for name in _OF_NODES}
    leaves: dict[str, list[Any]] = {name: [] for name in _OF_LEAVES}
    for number, (tree, class_) in enumerate(zip(model["trees"], model["tree_info"], strict=True)):
        columns = (tree[name] for name in ("left_children", "right_children", "split_indices", "split_conditions"))
        for place, (left, right, column, value) in enumerate(zip(*columns, strict=True)):
            split = left != -1
            node = (number, place, "BRANCH_LT" if split else "LEAF", column, value, max(left, 0), max(right, 0))
            for name, one in zip(_OF_NODES, node, strict=True):
                nodes[name].append(one)
            for name, one in zip(_OF_LEAVES, (number, place, class_, value) if not split else (), strict=False):
                leaves[name].append(one)
    return {**nodes, **leaves, "n_targets": len(base), "base_values": [float(value) for value in base]}


_OF_NODES = tuple(
    f"nodes_{name}" for name in ("treeids", "nodeids", "modes", "featureids", "values", "truenodeids", "falsenodeids")
)
_OF_LEAVES = ("target_treeids", "target_nodeids", "target_ids", "target_weights")
"""What ONNX calls that which it is told of each node, and of leaves besides."""
