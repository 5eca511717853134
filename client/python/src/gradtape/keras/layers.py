"""Layers: functions with variables, made on the first call."""

from __future__ import annotations

import collections
import contextvars
import functools
import inspect
import math
from collections.abc import Callable, Sequence
from typing import Any

import gradtape as tf
from gradtape.keras import activations, initializers
from gradtape.module import Module, leaves, snake_case
from gradtape.tensor import Value
from gradtape.variable import Variable

# What the outermost layer that is being called was told; the layers in it follow.
_training: contextvars.ContextVar[bool | None] = contextvars.ContextVar("training", default=None)
_names: collections.Counter[str] = collections.Counter()


class Layer(Module):
    """The base of all layers. A subclass makes its weights in `build` and computes in `call`.

    Args:
        trainable: Whether its weights are trained.
        name: Name for people; one that no other layer has if it is not given.
        dtype: Element type of its weights.
    """

    def __init__(
        self, *, trainable: bool = True, name: str | None = None, dtype: Any = None
    ) -> None:
        super().__init__(name or _unused_name(type(self)))
        self._trainable = trainable
        self.dtype = tf.as_dtype(dtype or tf.float32)
        self.built = False
        self._weights: list[Variable] = []

    def build(self, input_shape: Sequence[int]) -> None:
        """Makes the weights, now that the shape of the inputs is known."""

    def call(self, inputs: Any) -> Any:
        """Computes the outputs."""
        return inputs

    def __call__(self, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        """Builds the layer if need be, and computes the outputs.

        Args:
            inputs: A tensor or what converts to one; floats are cast to the layer's dtype.
            *args: Further arguments of `call`.
            **kwargs: Further arguments of `call`. `training` also reaches the layers in this one.
        """
        if not hasattr(self, "_weights"):
            raise RuntimeError(
                f"In layer {type(self).__name__}, you forgot to call `super().__init__()` as the "
                "first statement in the `__init__()` method."
            )
        inputs = self._cast(inputs)
        if not self.built:
            self.build(tuple(inputs.shape))
            self.built = True
        training = kwargs.pop("training", None)
        if training is None:
            training = _training.get()
        if training is not None and _takes_training(type(self).call):
            kwargs["training"] = training
        token = _training.set(training)
        try:
            return self.call(inputs, *args, **kwargs)
        finally:
            _training.reset(token)

    def add_weight(
        self,
        shape: Sequence[int] = (),
        initializer: Any = "glorot_uniform",
        dtype: Any = None,
        trainable: bool = True,
        name: str | None = None,
    ) -> Variable:
        """Makes a variable that belongs to this layer."""
        value = initializers.get(initializer)(tuple(shape), dtype or self.dtype)
        variable = Variable(value, trainable=trainable, name=f"{self.name}/{name or 'weight'}")
        self._weights.append(variable)
        return variable

    @property
    def trainable(self) -> bool:
        """Whether the weights are trained. Setting it sets it for the layers in this one too."""
        return self._trainable

    @trainable.setter
    def trainable(self, value: bool) -> None:
        self._trainable = bool(value)
        for layer in self._layers():
            layer.trainable = value

    @property
    def variables(self) -> list[Variable]:  # type: ignore[override]
        """All variables: the layer's own, then those of the layers in it, as they were made."""
        return self._collect(lambda layer: True)

    @property
    def weights(self) -> list[Variable]:
        """All variables, in the order in which they were made."""
        return self.variables

    @property
    def trainable_variables(self) -> list[Variable]:  # type: ignore[override]
        """The variables to train: none of frozen layers, wherever they are in this one."""
        return [v for v in self._collect(lambda layer: layer.trainable) if v.trainable]

    @property
    def trainable_weights(self) -> list[Variable]:
        """The variables to train."""
        return self.trainable_variables

    @property
    def non_trainable_variables(self) -> list[Variable]:  # type: ignore[override]
        """The other variables."""
        trainable = {id(variable) for variable in self.trainable_variables}
        return [variable for variable in self.variables if id(variable) not in trainable]

    @property
    def non_trainable_weights(self) -> list[Variable]:
        """The other variables."""
        return self.non_trainable_variables

    def _collect(self, enter: Callable[[Layer], bool]) -> list[Variable]:
        """Returns the variables of this layer and of those in it, each once."""
        found: dict[int, Variable] = {}
        seen: set[int] = set()

        def visit(layer: Layer) -> None:
            if id(layer) in seen or not enter(layer):
                return
            seen.add(id(layer))
            attributes = [leaf for value in vars(layer).values() for leaf in leaves(value)]
            for variable in (*layer._weights, *attributes):
                if isinstance(variable, Variable):
                    found.setdefault(id(variable), variable)
            for inner in attributes:
                if isinstance(inner, Layer):
                    visit(inner)

        visit(self)
        return list(found.values())

    def _layers(self) -> list[Layer]:
        """The layers directly in this one, in the order in which they were assigned."""
        found = (leaf for value in vars(self).values() for leaf in leaves(value))
        return list({id(leaf): leaf for leaf in found if isinstance(leaf, Layer)}.values())

    def _cast(self, inputs: Any) -> Value:
        if not isinstance(inputs, Value):
            return tf.convert_to_tensor(inputs, self.dtype)
        if inputs.dtype.is_floating and inputs.dtype is not self.dtype:
            return tf.cast(inputs, self.dtype)
        return inputs

    def get_weights(self) -> list[Any]:
        """Returns the values of all variables as NumPy arrays."""
        return [variable.numpy() for variable in self.variables]

    def set_weights(self, weights: Sequence[Any]) -> None:
        """Assigns values to all variables, in their order."""
        if len(weights) != len(self.variables):
            raise ValueError(
                f"You called `set_weights(weights)` on layer '{self.name}' with a weight list of "
                f"length {len(weights)}, but the layer was expecting {len(self.variables)} weights."
            )
        for variable, value in zip(self.variables, weights, strict=True):
            variable.assign(value)

    def count_params(self) -> int:
        """Returns the number of elements of all variables."""
        return sum(math.prod(variable.shape) for variable in self.variables)


class Dense(Layer):
    """A fully connected layer: `activation(inputs @ kernel + bias)`.

    Args:
        units: Number of outputs.
        activation: Name or function; none by default.
        use_bias: Whether to add a bias.
        kernel_initializer: First values of the kernel.
        bias_initializer: First values of the bias.
        input_shape: Shape of one example, to make the weights at once.
        **kwargs: Those of `Layer`.
    """

    def __init__(
        self,
        units: int,
        activation: Any = None,
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        *,
        input_shape: Sequence[int] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if units <= 0:
            raise ValueError(f"Received an invalid value for `units`: {units}")
        self.units = int(units)
        self.activation: Callable[..., Any] = activations.get(activation)
        self.use_bias = use_bias
        self.kernel_initializer = kernel_initializer
        self.bias_initializer = bias_initializer
        if input_shape is not None:
            self.build((None, *input_shape))  # type: ignore[arg-type]
            self.built = True

    def build(self, input_shape: Sequence[int]) -> None:
        """Makes kernel and bias."""
        self.kernel = self.add_weight(
            (input_shape[-1], self.units), self.kernel_initializer, name="kernel"
        )
        self.bias = None
        if self.use_bias:
            self.bias = self.add_weight((self.units,), self.bias_initializer, name="bias")

    def call(self, inputs: Any) -> Any:
        """Computes the outputs."""
        outputs = tf.matmul(inputs, self.kernel)
        if self.bias is not None:
            outputs = outputs + self.bias
        return self.activation(outputs)


class Flatten(Layer):
    """Joins all axes but the first."""

    def build(self, input_shape: Sequence[int]) -> None:
        """Remembers the size of an example, so that a step need not ask for it."""
        self._size = math.prod(input_shape[1:])

    def call(self, inputs: Any) -> Any:
        """Computes the outputs."""
        return tf.reshape(inputs, (-1, self._size))


class Activation(Layer):
    """Applies an activation.

    Args:
        activation: Name or function.
        **kwargs: Those of `Layer`.
    """

    def __init__(self, activation: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.activation = activations.get(activation)

    def call(self, inputs: Any) -> Any:
        """Computes the outputs."""
        return self.activation(inputs)


class ReLU(Activation):
    """Applies the rectifier."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__("relu", **kwargs)


class Softmax(Activation):
    """Applies softmax along the last axis."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__("softmax", **kwargs)


class Dropout(Layer):
    """Sets a share of the inputs to zero while training, and scales up the rest.

    Args:
        rate: The share, from 0 up to but not including 1.
        **kwargs: Those of `Layer`.
    """

    def __init__(self, rate: float, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if not 0 <= rate < 1:
            raise ValueError(f"Invalid value received for argument `rate`: {rate}")
        self.rate = rate

    def call(self, inputs: Any, training: bool = False) -> Any:
        """Computes the outputs."""
        return tf.nn.dropout(inputs, self.rate) if training else inputs


class InputLayer(Layer):
    """Says what the inputs of a `Sequential` are like, so that it makes its weights at once.

    Args:
        shape: Shape of one example.
        **kwargs: Those of `Layer`.
    """

    def __init__(self, shape: Sequence[int], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.shape = tuple(shape)


def Input(shape: Sequence[int], **kwargs: Any) -> InputLayer:  # noqa: N802 - Keras' name
    """Returns the first element of a `Sequential` whose examples have a shape."""
    return InputLayer(shape, **kwargs)


def _unused_name(kind: type) -> str:
    name = snake_case(kind.__name__)
    number = _names[name]
    _names[name] += 1
    return f"{name}_{number}" if number else name


@functools.cache
def _takes_training(call: Callable[..., Any]) -> bool:
    parameters = inspect.signature(call).parameters.values()
    return any(p.name == "training" or p.kind is p.VAR_KEYWORD for p in parameters)
