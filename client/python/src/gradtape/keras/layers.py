"""Layers: functions with variables, made on the first call."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import gradtape as tf
from gradtape.keras import activations, initializers
from gradtape.module import Module
from gradtape.variable import Variable


class Layer(Module):
    """The base of all layers. A subclass makes its weights in `build` and computes in `call`.

    Args:
        trainable: Whether its weights are trained.
        name: Name for people.
        dtype: Element type of its weights.
    """

    def __init__(
        self, *, trainable: bool = True, name: str | None = None, dtype: Any = None
    ) -> None:
        super().__init__(name)
        self.trainable = trainable
        self.dtype = tf.as_dtype(dtype or tf.float32)
        self.built = False
        self._weights: list[Variable] = []

    def build(self, input_shape: Sequence[int]) -> None:
        """Makes the weights, now that the shape of the inputs is known."""

    def call(self, inputs: Any) -> Any:
        """Computes the outputs."""
        return inputs

    def __call__(self, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        """Builds the layer if need be, and computes the outputs."""
        if not isinstance(inputs, (tf.Tensor, tf.Variable)):
            inputs = tf.convert_to_tensor(inputs, self.dtype)
        if not getattr(self, "built", False):
            self.build(tuple(inputs.shape))
            self.built = True
        return self.call(inputs, *args, **kwargs)

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
    def weights(self) -> list[Variable]:
        """All variables, in the order in which they were made."""
        return list(self.variables)

    @property
    def trainable_variables(self) -> list[Variable]:  # type: ignore[override]
        """The variables to train; none if the layer is frozen."""
        return [v for v in self.variables if v.trainable] if self.trainable else []

    @property
    def trainable_weights(self) -> list[Variable]:
        """The variables to train; none if the layer is frozen."""
        return self.trainable_variables

    @property
    def variables(self) -> list[Variable]:  # type: ignore[override]
        """All variables: the layer's own, then those of the layers in it, in the order of their making."""
        own = list(self._weights)
        for layer in self._layers():
            own += [v for v in layer.variables if all(v is not o for o in own)]
        direct = [v for v in vars(self).values() if isinstance(v, Variable)]
        return own + [v for v in direct if all(v is not o for o in own)]

    def _layers(self) -> list[Layer]:
        """The layers in this one, in the order in which they were assigned."""
        found: list[Layer] = []
        for value in vars(self).values():
            for item in value if isinstance(value, (list, tuple)) else [value]:
                if isinstance(item, Layer):
                    found.append(item)
        return found

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

    def call(self, inputs: Any) -> Any:
        """Computes the outputs."""
        return tf.reshape(inputs, (inputs.shape[0], -1))


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
        if not training or self.rate == 0:
            return inputs
        kept = tf.greater_equal(tf.random.uniform(inputs.shape, dtype=inputs.dtype), self.rate)
        return inputs * tf.cast(kept, inputs.dtype) * (1.0 / (1.0 - self.rate))
