"""Recurrent layers whose products are convolutions (Shi et al. 2015)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gradtape as tf
from gradtape.keras import activations
from gradtape.keras.layers.base import Layer
from gradtape.keras.layers.convolutional import each_axis
from gradtape.keras.layers.recurrent import RNN


class ConvLSTMCell(Layer):
    """A step of `ConvLSTM1D` and its kin; its states are the outputs and the carry.

    Args:
        rank: Number of spatial axes.
        options: The arguments of the layer that are the cell's.
        **kwargs: Those of `Layer`.
    """

    def __init__(self, rank: int, options: dict[str, Any], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._rank = rank
        self.filters = options["filters"]
        self.kernel_size = each_axis(options["kernel_size"], rank, "kernel_size")
        self.strides = each_axis(options["strides"], rank, "strides")
        self.dilation_rate = each_axis(options["dilation_rate"], rank, "dilation_rate")
        self.padding = options["padding"].lower()
        if self.padding not in ("valid", "same"):
            raise ValueError(f"Invalid value for argument `padding`: {self.padding!r}")
        self.data_format = options["data_format"] or "channels_last"
        self.activation: Any = activations.get(options["activation"])
        self.recurrent_activation: Any = activations.get(options["recurrent_activation"])
        self.use_bias, self.unit_forget_bias = options["use_bias"], options["unit_forget_bias"]
        self.dropout, self.recurrent_dropout = options["dropout"], options["recurrent_dropout"]
        self.seed = options["seed"]
        self._kinds = {
            kind: tuple(options[f"{kind}_{part}"] for part in _PARTS)
            for kind in ("kernel", "recurrent", "bias")
        }
        self.state_size = [self.filters, self.filters]

    def build(self, input_shape: Sequence[int]) -> None:
        """Makes the kernels and the bias."""
        first = self.data_format == "channels_first"
        channels, gates = input_shape[1 if first else -1], 4 * self.filters
        window = self.kernel_size
        self.kernel = self.add_kernel((*window, channels, gates), self._kinds["kernel"], "kernel")  # type: ignore[arg-type]
        self.recurrent_kernel = self.add_kernel(
            (*window, self.filters, gates),
            self._kinds["recurrent"],  # type: ignore[arg-type]
            "recurrent_kernel",
        )
        self.bias: Any = None
        if self.use_bias:
            self.bias = self.add_kernel((gates,), self._kinds["bias"], "bias")  # type: ignore[arg-type]
            if self.unit_forget_bias:
                before, forget, *rest = tf.split(self.bias, 4)
                self.bias.assign(tf.concat([before, tf.ones_like(forget), *rest], 0))

    def _convolve(self, x: Any, kernel: Any, padding: str, strides: Any, dilations: Any) -> Any:
        spatial = "DHW"[3 - self._rank :]
        layout = f"NC{spatial}" if self.data_format == "channels_first" else f"N{spatial}C"
        return tf.nn.convolution(
            x, kernel, strides=strides, padding=padding.upper(), data_format=layout,
            dilations=dilations,
        )  # fmt: skip

    def convolved(self, inputs: Any) -> Any:
        """Returns the part of a step that does not depend on the states."""
        outputs = self._convolve(
            inputs, self.kernel, self.padding, self.strides, self.dilation_rate
        )
        if self.bias is None:
            return outputs
        if self.data_format == "channels_first":
            return outputs + tf.reshape(self.bias, (-1, *(1,) * self._rank))
        return outputs + self.bias

    def call(self, inputs: Any, states: Any, training: bool = False) -> tuple[Any, list[Any]]:
        """Computes one step: the outputs and the next states."""
        output, carry = states
        if training and self.dropout:
            inputs = tf.nn.dropout(inputs, self.dropout, seed=self.seed)
        if training and self.recurrent_dropout:
            output = tf.nn.dropout(output, self.recurrent_dropout, seed=self.seed)
        ones = (1,) * self._rank
        gates = self.convolved(inputs) + self._convolve(
            output, self.recurrent_kernel, "same", ones, ones
        )
        axis = 1 if self.data_format == "channels_first" else -1
        enter, keep, candidate, leave = tf.split(gates, 4, axis=axis)
        kept = self.recurrent_activation(keep) * carry
        carry = kept + self.recurrent_activation(enter) * self.activation(candidate)
        output = self.recurrent_activation(leave) * self.activation(carry)
        return output, [output, carry]


_PARTS = ("initializer", "regularizer", "constraint")


class _ConvLSTM(RNN):
    """Long short-term memory of images, or of what has another number of axes.

    Args:
        filters: Number of output channels.
        kernel_size: Extents of the kernels, or one number for all.
        strides: Steps of the kernel of the inputs.
        padding: "valid" or "same".
        data_format: "channels_last" or "channels_first".
        dilation_rate: Distances between the elements of the kernel of the inputs.
        activation: Activation of the outputs.
        recurrent_activation: Activation of the gates.
        use_bias: Whether there is a bias.
        kernel_initializer: First values of the kernel.
        recurrent_initializer: First values of the recurrent kernel.
        bias_initializer: First values of the bias.
        unit_forget_bias: Whether the forget gate's bias is 1 at first.
        kernel_regularizer: Penalty of the kernel.
        recurrent_regularizer: Penalty of the recurrent kernel.
        bias_regularizer: Penalty of the bias.
        activity_regularizer: Penalty of the outputs.
        kernel_constraint: What the kernel must be like after each step.
        recurrent_constraint: What the recurrent kernel must be like after each step.
        bias_constraint: What the bias must be like after each step.
        dropout: Share of the inputs that is dropped while training.
        recurrent_dropout: Share of the states that is dropped while training.
        seed: Seed of the dropped shares.
        return_sequences: Whether to return the outputs of all steps instead of the last.
        return_state: Whether to return the last states too.
        go_backwards: Whether to begin with the last step.
        stateful: Whether a batch begins with the states that the one before ended with.
        **kwargs: Those of `Layer`.
    """

    _rank: int

    def __init__(
        self,
        filters: int,
        kernel_size: Any,
        strides: Any = 1,
        padding: str = "valid",
        data_format: str | None = None,
        dilation_rate: Any = 1,
        activation: Any = "tanh",
        recurrent_activation: Any = "sigmoid",
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        recurrent_initializer: Any = "orthogonal",
        bias_initializer: Any = "zeros",
        unit_forget_bias: bool = True,
        kernel_regularizer: Any = None,
        recurrent_regularizer: Any = None,
        bias_regularizer: Any = None,
        activity_regularizer: Any = None,
        kernel_constraint: Any = None,
        recurrent_constraint: Any = None,
        bias_constraint: Any = None,
        dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        seed: int | None = None,
        return_sequences: bool = False,
        return_state: bool = False,
        go_backwards: bool = False,
        stateful: bool = False,
        **kwargs: Any,
    ) -> None:
        options = dict(locals())
        cell = ConvLSTMCell(self._rank, options, name="conv_lstm_cell", dtype=kwargs.get("dtype"))
        super().__init__(
            cell, return_sequences, return_state, go_backwards, stateful,
            activity_regularizer=activity_regularizer, **kwargs,
        )  # fmt: skip

    def _first_states(self, sequences: Any, given: Any) -> list[Any]:
        if given is not None or (self.stateful and self._last_states is not None):
            return super()._first_states(sequences, given)
        step = self._floating(sequences[:, 0])
        if not self.cell.built:
            with self.scope():
                self.cell._path = f"{self.path}/{self.cell.name}"
                self.cell.build((None, *step.shape[1:]))
        # As large as what comes out of the convolution of the inputs.
        with self.cell._cast_weights():
            gates = self.cell.convolved(tf.zeros_like(step))
        axis = 1 if self.cell.data_format == "channels_first" else -1
        zeros = tf.zeros_like(tf.split(gates, 4, axis=axis)[0])
        return [zeros, zeros]


class ConvLSTM1D(_ConvLSTM):
    """Long short-term memory of rows, of shape [batch, time, length, channels]."""

    _rank = 1


class ConvLSTM2D(_ConvLSTM):
    """Long short-term memory of images, of shape [batch, time, height, width, channels]."""

    _rank = 2


class ConvLSTM3D(_ConvLSTM):
    """Long short-term memory of volumes, of shape [batch, time, depth, height, width, channels]."""

    _rank = 3


__all__ = ["ConvLSTM1D", "ConvLSTM2D", "ConvLSTM3D"]
