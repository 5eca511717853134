"""One step of recurrent networks: what `RNN` repeats along time.

The cells here split a step in two: `project` is what does not depend on the states, so that an
`RNN` computes it for all steps at once, and `step` is the rest.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gradtape as tf
from gradtape.keras import activations
from gradtape.keras.layers.base import Layer


class _Cell(Layer):
    """What the cells have in common.

    Args:
        units: Number of outputs.
        activation: Activation of the outputs.
        use_bias: Whether there is a bias.
        kernel_initializer: First values of the kernel.
        recurrent_initializer: First values of the recurrent kernel.
        bias_initializer: First values of the bias.
        kernel_regularizer: Penalty of the kernel.
        recurrent_regularizer: Penalty of the recurrent kernel.
        bias_regularizer: Penalty of the bias.
        kernel_constraint: What the kernel must be like after each step.
        recurrent_constraint: What the recurrent kernel must be like after each step.
        bias_constraint: What the bias must be like after each step.
        dropout: Share of the inputs that is dropped while training.
        recurrent_dropout: Share of the states that is dropped while training.
        seed: Seed of the dropped shares.
        **kwargs: Those of `Layer`.
    """

    # How many times `units` columns the kernels have.
    _gates: int

    def __init__(
        self,
        units: int,
        activation: Any = "tanh",
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        recurrent_initializer: Any = "orthogonal",
        bias_initializer: Any = "zeros",
        kernel_regularizer: Any = None,
        recurrent_regularizer: Any = None,
        bias_regularizer: Any = None,
        kernel_constraint: Any = None,
        recurrent_constraint: Any = None,
        bias_constraint: Any = None,
        dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if units <= 0:
            raise ValueError(
                "Received an invalid value for argument `units`, expected a positive integer, "
                f"got {units}."
            )
        self.units, self.use_bias = units, use_bias
        self.activation = activations.get(activation)
        self._kernel_kind = (kernel_initializer, kernel_regularizer, kernel_constraint)
        self._recurrent_kind = (recurrent_initializer, recurrent_regularizer, recurrent_constraint)
        self._bias_kind = (bias_initializer, bias_regularizer, bias_constraint)
        self.dropout, self.recurrent_dropout = dropout, recurrent_dropout
        self.seed = seed
        self.state_size: Any = units
        self.output_size = units

    def build(self, input_shape: Sequence[int]) -> None:
        """Makes the kernels and the bias."""
        columns = self._gates * self.units
        self.kernel = self.add_kernel((input_shape[-1], columns), self._kernel_kind, "kernel")
        self.recurrent_kernel = self.add_kernel(
            (self.units, columns), self._recurrent_kind, "recurrent_kernel"
        )
        self.bias: Any = None
        if self.use_bias:
            self.bias = self._add_bias()

    def _add_bias(self) -> Any:
        return self.add_kernel((self._gates * self.units,), self._bias_kind, "bias")

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
        return [tf.zeros((batch_size, size), self.dtype) for size in sizes]


class SimpleRNNCell(_Cell):
    """A step of `SimpleRNN`."""

    _gates = 1

    def step(self, projected: Any, states: list[Any]) -> tuple[Any, list[Any]]:
        """Returns the outputs of a step and the next states."""
        output = self.activation(projected + tf.matmul(states[0], self.recurrent_kernel))
        return output, [output]


class LSTMCell(_Cell):
    """A step of `LSTM`; its states are the outputs and the carry."""

    _gates = 4

    def __init__(
        self,
        units: int,
        activation: Any = "tanh",
        recurrent_activation: Any = "sigmoid",
        *args: Any,
        unit_forget_bias: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(units, activation, *args, **kwargs)
        self.recurrent_activation = activations.get(recurrent_activation)
        self.unit_forget_bias = unit_forget_bias
        self.state_size = [units, units]

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


class GRUCell(_Cell):
    """A step of `GRU`."""

    _gates = 3

    def __init__(
        self,
        units: int,
        activation: Any = "tanh",
        recurrent_activation: Any = "sigmoid",
        *args: Any,
        reset_after: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(units, activation, *args, **kwargs)
        self.recurrent_activation = activations.get(recurrent_activation)
        self.reset_after = reset_after

    def _add_bias(self) -> Any:
        columns = 3 * self.units
        shape = (2, columns) if self.reset_after else (columns,)
        return self.add_kernel(shape, self._bias_kind, "bias")

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
