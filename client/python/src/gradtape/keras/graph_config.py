"""Functional models as plain data, in the format of Keras, and back.

A layer is written with the calls that the model makes of it, and a tensor as the layer that makes
it, the number of the call and the number among the outputs of that call.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import gradtape as tf
from gradtape import nest
from gradtape.keras import symbolic
from gradtape.keras._registry import snake_case
from gradtape.keras.layers.base import Layer
from gradtape.keras.layers.core import InputLayer
from gradtape.keras.ops._lift import Call
from gradtape.keras.serialization import deserialize_keras_object, serialize_keras_object
from gradtape.keras.symbolic import Node, SymbolicTensor

if TYPE_CHECKING:
    from gradtape.keras.models import Graph

# The operators of symbolic tensors, and Keras' classes for them.
_OPERATORS = {
    "__add__": "Add", "__sub__": "Subtract", "__mul__": "Multiply", "__truediv__": "Divide",
    "__floordiv__": "FloorDivide", "__mod__": "Mod", "__pow__": "Power", "__matmul__": "Matmul",
    "__neg__": "Negative", "__abs__": "Absolute", "__lt__": "Less", "__le__": "LessEqual",
    "__gt__": "Greater", "__ge__": "GreaterEqual", "__getitem__": "GetItem",
}  # fmt: skip
# Those whose operands come the other way round.
_REVERSED = {f"__r{name[2:]}": kind for name, kind in _OPERATORS.items()}
_OPS = "keras.src.ops."
# Functions of `keras.ops` that take tensors and nothing else.
_PLAIN_OPS = (
    "absolute", "add", "cos", "divide", "exp", "expm1", "log", "log1p", "logical_and",
    "logical_not", "logical_or", "matmul", "maximum", "minimum", "multiply", "negative",
    "reciprocal", "sign", "sin", "sqrt", "square", "subtract", "tanh",
)  # fmt: skip


class _Writer:
    """Names the operations of a graph and writes them."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        # For each tensor the operation, the number of its call, and its own number.
        self._history: dict[int, tuple[str, int, int]] = {}
        self._calls: dict[int, list[Node]] = {}
        self._taken: set[str] = set()

    def config(self) -> dict[str, Any]:
        """Returns layers, inputs and outputs."""
        layers = [self._input(symbol) for symbol in nest.flatten(self._graph.inputs)]
        for node in self._graph.nodes:
            self._calls.setdefault(id(node.function), []).append(node)
        operations = self._graph.operations()
        for operation in operations:
            self._name(operation)
        layers += [self._operation(operation) for operation in operations]
        return {
            "layers": layers,
            "input_layers": self._structure(self._graph.inputs),
            "output_layers": self._structure(self._graph.outputs),
        }

    def _input(self, symbol: SymbolicTensor) -> dict[str, Any]:
        self._history[id(symbol)] = (symbol.name, 0, 0)
        self._taken.add(symbol.name)
        config = {
            "batch_shape": list(symbol.shape),
            "dtype": symbol.dtype.name,
            "sparse": False,
            "ragged": False,
            "name": symbol.name,
            "optional": False,
        }
        return {
            "module": "keras.layers",
            "class_name": "InputLayer",
            "config": config,
            "registered_name": None,
            "name": symbol.name,
            "inbound_nodes": [],
        }

    def _name(self, operation: Any) -> None:
        name = getattr(operation, "name", None) or "operation"
        if not isinstance(operation, Layer):
            stem, number = name, 0
            while name in self._taken:
                number += 1
                name = f"{stem}_{number}"
        self._taken.add(name)
        for i, node in enumerate(self._calls[id(operation)]):
            for k, output in enumerate(nest.flatten(node.outputs)):
                self._history[id(output)] = (name, i, k)

    def _operation(self, operation: Any) -> dict[str, Any]:
        nodes = self._calls[id(operation)]
        name = self._history[id(nest.flatten(nodes[0].outputs)[0])][0]
        if isinstance(operation, Layer):
            config = serialize_keras_object(operation)
            calls = [{"args": self._plain(n.args), "kwargs": self._plain(n.kwargs)} for n in nodes]
        else:
            kind, args = _operator(operation, nodes[0])
            config = {
                "module": f"{_OPS}numpy",
                "class_name": kind,
                "config": {"name": name},
                "registered_name": kind,
            }
            calls = [{"args": self._plain(args), "kwargs": {}}]
        return config | {"name": name, "inbound_nodes": calls}

    def _plain(self, structure: Any) -> Any:
        if isinstance(structure, SymbolicTensor):
            config = {
                "shape": list(structure.shape),
                "dtype": structure.dtype.name,
                "keras_history": list(self._history[id(structure)]),
            }
            return {"class_name": "__keras_tensor__", "config": config}
        if isinstance(structure, (list, tuple)):
            return [self._plain(item) for item in structure]
        if isinstance(structure, Mapping):
            return {name: self._plain(item) for name, item in structure.items()}
        return serialize_keras_object(structure)

    def _structure(self, structure: Any) -> Any:
        if isinstance(structure, SymbolicTensor):
            name, call, number = self._history[id(structure)]
            return [name, call + self._offset(structure), number]
        if isinstance(structure, Mapping):
            return {name: self._structure(item) for name, item in structure.items()}
        return [self._structure(item) for item in structure]

    @staticmethod
    def _offset(symbol: SymbolicTensor) -> int:
        """Keras counts the making of a functional model as its first call, here and only here."""
        return int(symbol.node is not None and _is_functional(symbol.node.function))


def _is_functional(layer: Any) -> bool:
    return isinstance(layer, tf.keras.Model) and layer.keras_class_name == "Functional"


def _operator(function: Any, node: Node) -> tuple[str, list[Any]]:
    """Returns Keras' class for an operator, and the operands in its order."""
    name = getattr(function, "operator", None)
    if name in _OPERATORS:
        return _OPERATORS[name], list(node.args)
    if name in _REVERSED:
        return _REVERSED[name], list(node.args)[::-1]
    called = getattr(function, "name", "")
    if isinstance(function, Call) and called in _PLAIN_OPS and not node.kwargs:
        return "".join(part.capitalize() for part in called.split("_")), list(node.args)
    raise ValueError(
        f"The model calls {getattr(function, 'name', function)!r}, which is not a layer: to write "
        "it, call it in the `call` of a layer of your own."
    )


def to_config(graph: Graph) -> dict[str, Any]:
    """Returns the layers of a graph, its inputs and its outputs as plain data."""
    return _Writer(graph).config()


# === Reading ===


class _Reader:
    """Makes the layers that were written, and the calls of them."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        self._config = config
        self._operations: dict[str, Any] = {}
        # For each operation the outputs of its calls so far.
        self._outputs: dict[str, list[list[Any]]] = {}

    def run(self) -> tuple[Any, Any]:
        """Returns the symbolic inputs and outputs."""
        pending: dict[str, list[Any]] = {}
        for data in self._config["layers"]:
            name = data["name"]
            operation = self._operations[name] = self._make(data)
            self._outputs[name] = [[operation.symbol]] if isinstance(operation, InputLayer) else []
            if data["inbound_nodes"]:
                pending[name] = list(data["inbound_nodes"])
        while pending:
            before = sum(map(len, pending.values()))
            for name in list(pending):
                calls = pending[name]
                while calls and self._ready(calls[0]):
                    self._call(name, calls.pop(0))
                if not calls:
                    del pending[name]
            if sum(map(len, pending.values())) == before:
                raise ValueError(f"The calls of {sorted(pending)} depend on each other in a loop.")
        return tuple(
            self._structure(self._config[key]) for key in ("input_layers", "output_layers")
        )

    @staticmethod
    def _make(data: Mapping[str, Any]) -> Any:
        if not str(data.get("module", "")).startswith(_OPS):
            return deserialize_keras_object(data)
        function = getattr(tf.keras.ops, snake_case(data["class_name"]), None)
        if function is None:
            raise ValueError(f"There is no operation {data['class_name']!r} here.")
        options = {k: v for k, v in data["config"].items() if k not in ("name", "dtype")}
        options = deserialize_keras_object(options)

        def operation(*args: Any, **kwargs: Any) -> Any:
            return function(*args, **{**options, **kwargs})

        operation.name = data["name"]  # type: ignore[attr-defined]
        kinds = {kind: name for name, kind in _OPERATORS.items()}
        operation.operator = kinds.get(data["class_name"])  # type: ignore[attr-defined]
        return operation

    def _ready(self, call: Any) -> bool:
        return all(number < len(self._outputs[name]) for name, number, _ in _histories(call))

    def _call(self, name: str, call: Any) -> None:
        if isinstance(call, Mapping):
            args, kwargs = self._revived(call["args"]), self._revived(call["kwargs"])
        else:
            # What Keras 2 wrote: a list of tensors, each with arguments by name.
            tensors = [self._tensor(*item[:3]) for item in call]
            args = [tensors[0] if len(tensors) == 1 else tensors]
            kwargs = call[0][3] if len(call[0]) > 3 else {}
        operation = self._operations[name]
        kwargs = {key: value for key, value in kwargs.items() if value is not None}
        outputs = symbolic.record(operation, args, kwargs)
        self._outputs[name].append(nest.flatten(outputs))

    def _tensor(self, name: str, call: int, number: int) -> Any:
        return self._outputs[name][call][number]

    def _revived(self, structure: Any) -> Any:
        if isinstance(structure, Mapping):
            if structure.get("class_name") == "__keras_tensor__":
                return self._tensor(*structure["config"]["keras_history"])
            if "class_name" in structure:
                return deserialize_keras_object(structure)
            return {key: self._revived(item) for key, item in structure.items()}
        if isinstance(structure, list):
            return [self._revived(item) for item in structure]
        return structure

    def _structure(self, structure: Any) -> Any:
        if isinstance(structure, Mapping):
            return {key: self._structure(item) for key, item in structure.items()}
        if len(structure) == 3 and isinstance(structure[0], str):
            name, call, number = structure
            return self._tensor(name, call - int(_is_functional(self._operations[name])), number)
        return [self._structure(item) for item in structure]


def _histories(structure: Any) -> list[Any]:
    """Returns what a call says of the tensors that it takes."""
    if isinstance(structure, Mapping):
        if structure.get("class_name") == "__keras_tensor__":
            return [structure["config"]["keras_history"]]
        return [found for item in structure.values() for found in _histories(item)]
    if isinstance(structure, list):
        if len(structure) >= 3 and isinstance(structure[0], str) and isinstance(structure[1], int):
            return [structure[:3]]
        return [found for item in structure for found in _histories(item)]
    return []


def from_config(config: Mapping[str, Any]) -> tuple[Any, Any]:
    """Returns symbolic inputs and outputs of what `to_config` returned."""
    return _Reader(config).run()
