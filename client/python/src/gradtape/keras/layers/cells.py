"""One step of recurrent networks: what `RNN` repeats along time.

The cells here split a step in two: `project` is what does not depend on the states, so that an
`RNN` computes it for all steps at once, and `step` is the rest.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import gradtape as tf
from gradtape.keras import activations
from gradtape.keras.layers.base import Layer

# Parameters that all cells have, in Keras' order, and their defaults.
_FIRST: dict[str, Any] = {
    "use_bias": True,
    "kernel_initializer": "glorot_uniform",
    "recurrent_initializer": "orthogonal",
    "bias_initializer": "zeros",
}
_LAST: dict[str, Any] = {
    "kernel_regularizer": None,
    "recurrent_regularizer": None,
    "bias_regularizer": None,
    "kernel_constraint": None,
    "recurrent_constraint": None,
    "bias_constraint": None,
    "dropout": 0.0,
    "recurrent_dropout": 0.0,
    "seed": None,
}


def signature(parameters: dict[str, Any]) -> inspect.Signature:
    """Returns the signature of a cell or layer: `units`, parameters with defaults, `**kwargs`."""
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    return inspect.Signature(
        [
            inspect.Parameter("units", kind),
            *(inspect.Parameter(name, kind, default=d) for name, d in parameters.items()),
            inspect.Parameter("kwargs", inspect.Parameter.VAR_KEYWORD),
        ]
    )


class _Cell(Layer):
    """What the cells have in common.

    Args:
        units: Number of outputs.
        activation: Activation of the outputs.
        recurrent_activation: Activation of the gates, where there are any.
        use_bias: Whether there is a bias.
        kernel_initializer: First values of the kernel.
        recurrent_initializer: First values of the recurrent kernel.
        bias_initializer: First values of the bias.
        unit_forget_bias: Of an LSTM, whether the forget gate's bias is 1 at first.
        kernel_regularizer: Penalty of the kernel.
        recurrent_regularizer: Penalty of the recurrent kernel.
        bias_regularizer: Penalty of the bias.
        kernel_constraint: What the kernel must be like after each step.
        recurrent_constraint: What the recurrent kernel must be like after each step.
        bias_constraint: What the bias must be like after each step.
        dropout: Share of the inputs that is dropped while training.
        recurrent_dropout: Share of the states that is dropped while training.
        reset_after: Of a GRU, whether the reset gate acts after the matrix product.
        seed: Seed of the dropped shares.
        **kwargs: Those of `Layer`.
    """

    # How many times `units` columns the kernels have.
    _gates: int
    # The parameters besides `units`, and their defaults.
    parameters: dict[str, Any]
    units: int
    activation: Any
    recurrent_activation: Any
    use_bias: bool
    unit_forget_bias: bool
    dropout: float
    recurrent_dropout: float
    reset_after: bool
    seed: int | None

    def __init_subclass__(cls, parameters: dict[str, Any], **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls.parameters = parameters
        cls.__signature__ = signature(parameters)  # type: ignore[attr-defined]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        given = type(self).__signature__.bind(*args, **kwargs)  # type: ignore[attr-defined]
        given.apply_defaults()
        super().__init__(**given.arguments.pop("kwargs"))
        vars(self).update(given.arguments)
        if self.units <= 0:
            raise ValueError(
                "Received an invalid value for argument `units`, expected a positive integer, "
                f"got {self.units}."
            )
        self.activation = activations.get(self.activation)
        if "recurrent_activation" in self.parameters:
            self.recurrent_activation = activations.get(self.recurrent_activation)
        self.state_size: Any = self.units
        self.output_size = self.units

    def _kind(self, name: str) -> tuple[Any, Any, Any]:
        return tuple(  # type: ignore[return-value]
            getattr(self, f"{name}_{part}") for part in ("initializer", "regularizer", "constraint")
        )

    def build(self, input_shape: Sequence[int]) -> None:
        """Makes the kernels and the bias."""
        columns = self._gates * self.units
        self.kernel = self.add_kernel((input_shape[-1], columns), self._kind("kernel"), "kernel")
        self.recurrent_kernel = self.add_kernel(
            (self.units, columns), self._kind("recurrent"), "recurrent_kernel"
        )
        self.bias: Any = None
        if self.use_bias:
            self.bias = self._add_bias()

    def _add_bias(self) -> Any:
        return self.add_kernel((self._gates * self.units,), self._kind("bias"), "bias")

    def project(self, inputs: Any) -> Any:
        """Returns the part of a step that does not depend on the states."""
        projected = tf.matmul(self._floating(inputs), self.kernel)
        return projected if self.bias is None else projected + self.bias

    def step(self, projected: Any, states: list[Any]) -> tuple[Any, list[Any]]:
        """Returns the outputs of a step and the next states."""
        raise NotImplementedError(f"{type(self).__name__} does not say what a step is")

    def call(self, inputs: Any, states: Any, training: bool = False) -> tuple[Any, list[Any]]:
        """Computes one step: the outputs and the next states."""
        states = list(states) if isinstance(states, (list, tuple)) else [states]
        if training:
            inputs = inputs * self.dropped(tf.ones_like(inputs), self.dropout)
        return self.step(self.project(inputs), self.drop_states(states, training))

    def dropped(self, ones: Any, rate: float) -> Any:
        """Returns ones of which a share is dropped."""
        return tf.nn.dropout(ones, rate, seed=self.seed) if rate else ones

    def drop_states(self, states: list[Any], training: bool, factor: Any = None) -> list[Any]:
        """Drops a share of the output's state while training: `factor`, or a new choice."""
        if not training or not self.recurrent_dropout:
            return states
        if factor is None:
            factor = self.dropped(tf.ones_like(states[0]), self.recurrent_dropout)
        return [states[0] * factor, *states[1:]]

    def get_initial_state(self, batch_size: int) -> list[Any]:
        """Returns zeros for the states of a batch."""
        sizes = self.state_size if isinstance(self.state_size, list) else [self.state_size]
        return [tf.zeros((batch_size, size), self.compute_dtype) for size in sizes]


class SimpleRNNCell(_Cell, parameters={"activation": "tanh", **_FIRST, **_LAST}):
    """A step of `SimpleRNN`."""

    _gates = 1

    def step(self, projected: Any, states: list[Any]) -> tuple[Any, list[Any]]:
        """Returns the outputs of a step and the next states."""
        output = self.activation(projected + tf.matmul(states[0], self.recurrent_kernel))
        return output, [output]


_GATED = {"activation": "tanh", "recurrent_activation": "sigmoid", **_FIRST}


class LSTMCell(_Cell, parameters={**_GATED, "unit_forget_bias": True, **_LAST}):
    """A step of `LSTM`; its states are the outputs and the carry."""

    _gates = 4

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.state_size = [self.units, self.units]

    def _add_bias(self) -> Any:
        bias = super()._add_bias()
        if self.unit_forget_bias:
            first, forget, *rest = tf.split(bias, 4)
            bias.assign(tf.concat([first, tf.ones_like(forget), *rest], 0))
        return bias

    def step(self, projected: Any, states: list[Any]) -> tuple[Any, list[Any]]:
        """Returns the outputs of a step and the next states."""
        output, carry = states
        gates = projected + tf.matmul(output, self.recurrent_kernel)
        enter, keep, candidate, leave = tf.split(gates, 4, axis=-1)
        kept = self.recurrent_activation(keep) * carry
        carry = kept + self.recurrent_activation(enter) * self.activation(candidate)
        output = self.recurrent_activation(leave) * self.activation(carry)
        return output, [output, carry]


# Here the seed comes last.
_LAST_OF_GRU = {name: _LAST[name] for name in _LAST if name != "seed"}
_LAST_OF_GRU |= {"reset_after": True, "seed": None}


class GRUCell(_Cell, parameters=_GATED | _LAST_OF_GRU):
    """A step of `GRU`."""

    _gates = 3

    def _add_bias(self) -> Any:
        columns = 3 * self.units
        shape = (2, columns) if self.reset_after else (columns,)
        return self.add_kernel(shape, self._kind("bias"), "bias")

    def project(self, inputs: Any) -> Any:
        """Returns the part of a step that does not depend on the states."""
        projected = tf.matmul(self._floating(inputs), self.kernel)
        if self.bias is None:
            return projected
        return projected + (self.bias[0] if self.reset_after else self.bias)

    def step(self, projected: Any, states: list[Any]) -> tuple[Any, list[Any]]:
        """Returns the outputs of a step and the next states."""
        state = states[0]
        update, reset, candidate = tf.split(projected, 3, axis=-1)
        if self.reset_after:
            recurrent = tf.matmul(state, self.recurrent_kernel)
            if self.bias is not None:
                recurrent = recurrent + self.bias[1]
            of_update, of_reset, of_candidate = tf.split(recurrent, 3, axis=-1)
            update = self.recurrent_activation(update + of_update)
            candidate = candidate + self.recurrent_activation(reset + of_reset) * of_candidate
        else:
            gates, last = self.recurrent_kernel[:, : 2 * self.units], 2 * self.units
            of_update, of_reset = tf.split(tf.matmul(state, gates), 2, axis=-1)
            update = self.recurrent_activation(update + of_update)
            reset = self.recurrent_activation(reset + of_reset)
            candidate = candidate + tf.matmul(reset * state, self.recurrent_kernel[:, last:])
        output = update * state + (1.0 - update) * self.activation(candidate)
        return output, [output]


class StackedRNNCells(Layer):
    """Cells on top of each other, as one cell.

    Args:
        cells: The cells.
        **kwargs: Those of `Layer`.
    """

    def __init__(self, cells: Sequence[Any], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.cells = list(cells)

    @property
    def state_size(self) -> list[Any]:
        """The sizes of the states of each cell."""
        return [cell.state_size for cell in self.cells]

    @property
    def output_size(self) -> int:
        """Number of outputs."""
        return int(self.cells[-1].output_size)

    def get_initial_state(self, batch_size: int) -> list[Any]:
        """Returns zeros for the states of a batch, one after the other."""
        return [s for cell in self.cells for s in cell.get_initial_state(batch_size)]

    def call(self, inputs: Any, states: Any, training: bool = False) -> tuple[Any, list[Any]]:
        """Computes one step: the outputs and the next states."""
        states, following = list(states), []
        for cell in self.cells:
            count = len(cell.state_size) if isinstance(cell.state_size, (list, tuple)) else 1
            inputs, after = cell(inputs, states[:count], training=training)
            following += after
            states = states[count:]
        return inputs, following
