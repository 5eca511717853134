"""Models: layers of layers that can be trained."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import gradtape as tf
from gradtape import nest
from gradtape.keras import (
    _configured,
    dtype_policies,
    graph_config,
    model_files,
    saving,
    serialization,
    summary,
    symbolic,
)
from gradtape.keras.layers.base import Layer
from gradtape.keras.layers.core import InputLayer
from gradtape.keras.model_files import load_model, model_from_json, save_model
from gradtape.keras.symbolic import Node, SymbolicTensor
from gradtape.keras.trainer import Trainer


class Graph:
    """The calls that lead from symbolic inputs to symbolic outputs.

    Args:
        inputs: Symbolic tensor, or nest of them.
        outputs: Symbolic tensor, or nest of them.
    """

    def __init__(self, inputs: Any, outputs: Any) -> None:
        self.inputs, self.outputs = inputs, outputs
        given = nest.flatten(inputs)
        for tensor in (*given, *nest.flatten(outputs)):
            if not isinstance(tensor, SymbolicTensor):
                raise ValueError(
                    "All `inputs` and `outputs` of a functional model must come from keras.Input. "
                    f"Received: {tensor!r}"
                )
        known = {id(tensor) for tensor in given}
        self.nodes = symbolic.sorted_nodes(outputs, known)
        missing = [
            source.name
            for node in self.nodes
            for source in node.sources()
            if source.node is None and id(source) not in known
        ]
        if missing:
            raise ValueError(f"The outputs also depend on {missing}, which are not among `inputs`.")

    def layers(self) -> list[Layer]:
        """Returns the inputs and the layers that are called, as `operations` orders them."""
        return [operation for operation in self._ordered() if isinstance(operation, Layer)]

    def operations(self) -> list[Any]:
        """Returns the layers and functions that are called, those far from the outputs first."""
        return [found for found in self._ordered() if not isinstance(found, InputLayer)]

    def _ordered(self) -> list[Any]:
        """Returns inputs and operations, as Keras orders them: by their distance to outputs."""
        depths: dict[int, int] = {}
        # Where an input comes among what is as far away: before what takes it first.
        first: dict[int, float] = {}
        makers = {id(x): node for node in self.nodes for x in nest.flatten(node.outputs)}
        for place in range(len(self.nodes) - 1, -1, -1):
            node = self.nodes[place]
            depth = depths.setdefault(id(node), 0)
            for source in node.sources():
                maker = makers.get(id(source), source)
                depths[id(maker)] = max(depths.get(id(maker), 0), depth + 1)
                first[id(source)] = place - 0.5
        rows = [(-depths[id(n)], float(i), n.function) for i, n in enumerate(self.nodes)]
        rows += [
            (-depths.get(id(symbol), 0), first.get(id(symbol), -1.0), symbol.layer)
            for symbol in nest.flatten(self.inputs)
            if symbol.layer is not None
        ]
        rows.sort(key=lambda row: row[:2])
        return list({id(operation): operation for *_, operation in rows}.values())

    def run(self, inputs: Any, replace: Callable[[Any], Any] = lambda function: function) -> Any:
        """Computes the outputs for real inputs.

        Args:
            inputs: The inputs.
            replace: Returns what is called instead of a layer or function.
        """
        values = dict(zip(map(id, nest.flatten(self.inputs)), self._flat(inputs), strict=True))
        for node in self.nodes:
            outputs = node.run(lambda symbol: values[id(symbol)], replace(node.function))
            flat = nest.flatten(node.outputs)
            values.update(zip(map(id, flat), nest.flatten(outputs), strict=True))
        outputs = self.outputs
        if isinstance(outputs, (list, tuple)) and len(outputs) == 1:
            # One in a list is given back by itself, as in Keras.
            outputs = outputs[0]
        return nest.map_structure(lambda symbol: values[id(symbol)], outputs)

    def _flat(self, inputs: Any) -> list[Any]:
        wanted = nest.flatten(self.inputs)
        if isinstance(inputs, dict) and not isinstance(self.inputs, dict):
            inputs = [inputs[symbol.name] for symbol in wanted]
        given = nest.flatten(inputs)
        if len(given) != len(wanted):
            raise ValueError(f"The model has {len(wanted)} inputs, got {len(given)}.")
        return given


class Model(Trainer):
    """The base of models.

    A subclass makes layers in `__init__` and computes in `call`; or a model is made of symbolic
    tensors, `Model(inputs, outputs)`, and computes what led from the ones to the others.

    Args:
        inputs: What `keras.Input` returned: symbolic tensor, or nest of them.
        outputs: What layers made of it.
        name: Name for people.
        **kwargs: Those of `Layer`.
    """

    _graph: Graph | None = None
    # Whether `build` is called by a call, which then makes the weights of the layers.
    _is_being_called = False
    history: Any = None

    def __init__(
        self, inputs: Any = None, outputs: Any = None, name: str | None = None, **kwargs: Any
    ) -> None:
        super().__init__(name=name, **kwargs)
        if inputs is not None or outputs is not None:
            self._become(inputs, outputs)

    def _become(self, inputs: Any, outputs: Any) -> None:
        self._graph = Graph(inputs, outputs)
        self.built = True

    def call(self, inputs: Any, training: Any = None, mask: Any = None) -> Any:
        """Computes the outputs."""
        if self._graph is None:
            raise NotImplementedError(
                f"Model {type(self).__name__} does not have a `call()` method implemented."
            )
        return self._graph.run(inputs)

    @property
    def inputs(self) -> list[Any]:
        """The symbolic inputs of a functional model."""
        return [] if self._graph is None else nest.flatten(self._graph.inputs)

    @property
    def outputs(self) -> list[Any]:
        """The symbolic outputs of a functional model."""
        return [] if self._graph is None else nest.flatten(self._graph.outputs)

    @property
    def input(self) -> Any:
        """The symbolic inputs as they were given."""
        return super().input if self._graph is None else self._graph.inputs

    @property
    def output(self) -> Any:
        """The symbolic outputs as they were given."""
        return super().output if self._graph is None else self._graph.outputs

    @property
    def layers(self) -> list[Layer]:
        """The layers, in the order in which they were assigned or are called."""
        return self._layers()

    @layers.setter
    def layers(self, _: Any) -> None:
        raise AttributeError(
            "`Model.layers` attribute is reserved and should not be used. Please use another name."
        )

    def _layers(self) -> list[Layer]:
        own = super()._layers()
        if self._graph is None:
            return own
        called = self._graph.layers()
        known = {id(layer) for layer in called}
        return called + [layer for layer in own if id(layer) not in known]

    def get_layer(self, name: str | None = None, index: int | None = None) -> Layer:
        """Returns a layer by its name or by its place."""
        if (name is None) == (index is None):
            raise ValueError("Provide either a layer name or a layer index.")
        if index is not None:
            return self.layers[index]
        for layer in self.layers:
            if layer.name == name:
                return layer
        raise ValueError(
            f"No such layer: {name}. Existing layers are: {[layer.name for layer in self.layers]}."
        )

    def _names(self) -> list[str] | None:
        """Returns the names of the layers that make several outputs."""
        outputs = None if self._graph is None else self._graph.outputs
        if not isinstance(outputs, (list, tuple)) or len(outputs) < 2:
            return None
        return [output.name for output in outputs]

    def build(self, input_shape: Any = None) -> None:
        """Makes the weights of all layers, by a call with inputs that have no examples.

        Args:
            input_shape: Shape of the inputs with the batch's extent, or a list of shapes.
        """
        if self._is_being_called or self.built or input_shape is None:
            return
        # A subclass' `build` that calls this one need not be called again.
        self.built = type(self).build is not Model.build
        self(symbolic.inputs_of(input_shape))

    def _build(self, given: dict[str, Any]) -> None:
        self._build_shapes = {"input_shape": symbolic.shapes_of(next(iter(given.values()), None))}
        # The layers make their weights in `call`; what a subclass does in `build` comes first.
        if type(self).build is not Model.build:
            self._is_being_called = True
            try:
                super()._build(given)
            finally:
                self._is_being_called = False
        self.built = True

    # === Configuration and files ===

    @property
    def keras_class_name(self) -> str:
        """The class that files name for the model, as Keras does."""
        functional = type(self) is Model and self._graph is not None
        return "Functional" if functional else type(self).__name__

    def get_config(self) -> dict[str, Any]:
        """Returns the layers and their calls as plain data, or the arguments of a subclass."""
        if self._graph is None or type(self).__init__ is not Model.__init__:
            return super().get_config()
        config = {"name": self.name, "trainable": self.trainable}
        return config | graph_config.to_config(self._graph)

    @classmethod
    def from_config(cls, config: Any, custom_objects: Any = None) -> Any:
        """Makes a model of what `get_config` returned."""
        with serialization.CustomObjectScope(custom_objects or {}):
            if "input_layers" not in config:
                return cls(**_configured.revived(config))
            inputs, outputs = graph_config.from_config(config)
            given = {name: config[name] for name in ("name", "trainable") if name in config}
            return cls(inputs, outputs, **given)

    def build_from_config(self, config: dict[str, Any]) -> None:
        """Makes the weights, by a call for the shapes that `get_build_config` returned."""
        shape = config.get("input_shape")
        if not self.built and shape is not None:
            self.build(shape)

    def to_json(self, **kwargs: Any) -> str:
        """Returns the model without its weights as a text; see `keras.models.model_from_json`.

        Args:
            **kwargs: Those of `json.dumps`.
        """
        return model_files.to_json(self, **kwargs)

    def save(self, filepath: Any, overwrite: bool = True, zipped: bool | None = None) -> None:
        """Writes the model with its weights to a file `*.keras`, which Keras reads too.

        Args:
            filepath: The file.
            overwrite: Whether a file that exists is replaced.
            zipped: Must not be False: a model is one file.
        """
        model_files.save_model(self, filepath, overwrite, zipped)

    def save_weights(self, filepath: Any, overwrite: bool = True) -> None:
        """Writes all weights to a file.

        Args:
            filepath: `*.safetensors`, or `*.weights.h5` for the format of Keras.
            overwrite: Whether a file that exists is replaced.
        """
        write = model_files.save_h5 if model_files.is_h5(filepath) else saving.save
        write(self, filepath, overwrite)

    def load_weights(self, filepath: Any, skip_mismatch: bool = False) -> None:
        """Reads all weights from such a file; see `gradtape.keras.saving.load`."""
        read = model_files.load_h5 if model_files.is_h5(filepath) else saving.load
        read(self, filepath, skip_mismatch)

    def summary(
        self,
        line_length: int | None = None,
        positions: Any = None,
        print_fn: Callable[[str], Any] | None = None,
        expand_nested: bool = False,
        show_trainable: bool = False,
        layer_range: Any = None,
    ) -> None:
        """Prints the layers, their outputs and their weights as a table."""
        if not self.built:
            raise ValueError(
                "This model has not yet been built. Build the model first by calling `build()` or "
                "by calling the model on a batch of data."
            )
        summary.print_summary(self, line_length, print_fn, expand_nested, show_trainable)


Functional = Model


def clone_model(
    model: Model,
    input_tensors: Any = None,
    clone_function: Callable[[Layer], Layer] | None = None,
    call_function: Any = None,
    recursive: bool = False,
    **kwargs: Any,
) -> Any:
    """Returns a model of the same layers with weights of their own.

    Args:
        model: A `Sequential`, or a functional model.
        input_tensors: Symbolic inputs of the new model.
        clone_function: Makes a layer of each layer.
        call_function: Is called with a layer of the new model and its arguments, instead of the
            layer itself.
        recursive: Whether `clone_function` gets the layers of models in the model instead of those
            models.
        **kwargs: None.
    """
    if kwargs:
        raise ValueError(f"Unexpected keyword argument(s): {tuple(kwargs)}")
    copies: dict[int, Any] = {}

    def copy(function: Any) -> Any:
        if not isinstance(function, Layer):
            return function
        if id(function) not in copies:
            copies[id(function)] = copied(function)
        return copies[id(function)]

    def copied(layer: Layer) -> Any:
        if isinstance(layer, Model) and (recursive or clone_function is None):
            return clone_model(layer, None, clone_function, call_function, recursive)
        return layer.clone(name=layer.name) if clone_function is None else clone_function(layer)

    if isinstance(model, Sequential):
        if call_function is not None:
            raise ValueError("`call_function` is not supported with Sequential models.")
        first = [] if model._input is None else [input_tensors or model._input]
        return Sequential([*first, *map(copy, model._stack)], name=model.name)
    if model._graph is None:
        raise ValueError("Only Sequential and functional models can be cloned.")
    inputs = model._graph.inputs if input_tensors is None else input_tensors

    def replace(function: Any) -> Any:
        layer = copy(function)
        if call_function is None or not isinstance(layer, Layer):
            return layer
        return _Calling(call_function, layer)

    return Model(inputs, model._graph.run(inputs, replace), name=model.name)


class _Calling:
    """Calls a function with a layer and its arguments."""

    # Symbolic tensors go to the function, which calls the layer with them.
    build = None

    def __init__(self, function: Callable[..., Any], layer: Layer) -> None:
        self._function, self._layer = function, layer

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._function(self._layer, *args, **kwargs)


class Sequential(Model):
    """Layers applied one after the other.

    Args:
        layers: The layers, or functions.
        trainable: Whether the weights of the layers are trained.
        name: Name for people.
    """

    def __init__(
        self,
        layers: Iterable[Any] | None = None,
        trainable: bool = True,
        name: str | None = None,
    ) -> None:
        super().__init__(name=name, trainable=trainable)
        self._stack: list[Any] = []
        self._input: SymbolicTensor | None = None
        for layer in layers or ():
            self.add(layer)

    def add(self, layer: Any, rebuild: bool = True) -> None:
        """Appends a layer."""
        if isinstance(layer, SymbolicTensor) and layer.node is None:
            symbol: SymbolicTensor | None = layer
        elif isinstance(layer, InputLayer):
            symbol = layer.symbol
        else:
            symbol = None
        if symbol is not None:
            if self._stack or self._input is not None:
                raise ValueError("An input can only be the first layer of a Sequential.")
            self._input = symbol
            self._become(symbol, symbol)
            return
        if not callable(layer):
            raise ValueError(f"Only layers and functions can be added. Received: {layer!r}")
        shape = getattr(layer, "example_shape", None)
        if not self._stack and self._input is None and shape is not None:
            self.add(tf.keras.Input(shape))
        self._stack.append(layer)
        if self._graph is not None:
            self._extend(layer)

    def _extend(self, layer: Any) -> None:
        assert self._graph is not None
        last = self._graph.outputs
        with self.scope():
            outputs = symbolic.record(layer, (last,), {})
        self._become(self._graph.inputs, outputs)

    def pop(self, rebuild: bool = True) -> Any:
        """Removes the last layer and returns it."""
        layer = self._stack.pop()
        if self._input is not None:
            self._become(self._input, self._input)
            for kept in self._stack:
                self._extend(kept)
        return layer

    def _layers(self) -> list[Layer]:
        return list({id(x): x for x in self._stack if isinstance(x, Layer)}.values())

    def get_config(self) -> dict[str, Any]:
        """Returns the layers as plain data."""
        layers = [serialization.serialize_keras_object(layer) for layer in self._stack]
        policy = dtype_policies.serialize(self.dtype_policy)
        config = {"name": self.name, "trainable": self.trainable, "dtype": policy}
        if self._input is not None:
            shape = list(self._input.shape)
            first = InputLayer(batch_shape=shape, dtype=self._input.dtype, name=self._input.name)
            layers.insert(0, serialization.serialize_keras_object(first))
            config["build_input_shape"] = shape
        return config | {"layers": layers}

    @classmethod
    def from_config(cls, config: Any, custom_objects: Any = None) -> Any:
        """Makes a model of what `get_config` returned."""
        with serialization.CustomObjectScope(custom_objects or {}):
            layers = [serialization.deserialize_keras_object(data) for data in config["layers"]]
        model = cls(layers, name=config["name"], trainable=config.get("trainable", True))
        if not model.built and config.get("build_input_shape"):
            model.build(config["build_input_shape"])
        return model

    def call(self, inputs: Any, training: Any = None, mask: Any = None) -> Any:
        """Computes the outputs."""
        for layer in self._stack:
            inputs = layer(inputs)
        return inputs


__all__ = [
    "Functional",
    "Model",
    "Node",
    "Sequential",
    "clone_model",
    "load_model",
    "model_from_json",
    "save_model",
]
