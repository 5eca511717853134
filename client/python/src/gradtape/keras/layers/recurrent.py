"""Recurrent layers: a cell repeated along the axis of time."""

from __future__ import annotations

import contextlib
from typing import Any

import gradtape as tf
from gradtape.keras._registry import snake_case
from gradtape.keras.layers.base import Layer
from gradtape.keras.layers.cells import (
    GRUCell,
    LSTMCell,
    SimpleRNNCell,
    StackedRNNCells,
    signature,
)


class RNN(Layer):
    """Repeats a cell along the second axis of the inputs.

    Args:
        cell: A layer with `call(inputs, states)`, which returns outputs and states, and
            `state_size`; or a list of them.
        return_sequences: Whether to return the outputs of all steps instead of the last.
        return_state: Whether to return the last states too.
        go_backwards: Whether to begin with the last step.
        stateful: Whether a batch begins with the states that the one before ended with.
        unroll: Ignored: steps are always taken one by one.
        zero_output_for_mask: Whether steps that do not count have outputs of zeros instead of those
            of the step before.
        **kwargs: Those of `Layer`.
    """

    def __init__(
        self,
        cell: Any,
        return_sequences: bool = False,
        return_state: bool = False,
        go_backwards: bool = False,
        stateful: bool = False,
        unroll: bool = False,
        zero_output_for_mask: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.cell: Any = StackedRNNCells(cell) if isinstance(cell, (list, tuple)) else cell
        self.return_sequences, self.return_state = return_sequences, return_state
        self.go_backwards, self.stateful = go_backwards, stateful
        self.zero_output_for_mask = zero_output_for_mask
        self.supports_masking = True
        self._last_states: list[Any] | None = None

    def call(
        self, sequences: Any, initial_state: Any = None, mask: Any = None, training: bool = False
    ) -> Any:
        """Computes the outputs.

        Args:
            sequences: Tensor of shape [batch, time, features].
            initial_state: The first states; zeros by default.
            mask: Which steps count, of shape [batch, time].
            training: Whether to drop shares of inputs and states.
        """
        if isinstance(mask, list):
            mask = mask[0]
        states = self._first_states(sequences, initial_state)
        if hasattr(self.cell, "project") and not self.cell.built:
            # One call makes the weights, with their paths.
            self.cell(sequences[:, 0], states)
        # A cell that splits a step in two is not called as a layer.
        split = hasattr(self.cell, "project")
        with self.cell._cast_weights() if split else contextlib.nullcontext():
            return self._run(sequences, states, mask, training)

    def _run(self, sequences: Any, states: list[Any], mask: Any, training: bool) -> Any:
        """Takes all steps."""
        step, steps = self._prepare(sequences, states, training)
        counts = None
        if mask is not None:
            counts = tf.unstack(mask, axis=1)
        order = range(len(steps))
        outputs: list[Any] = []
        held: Any = None
        for i in reversed(order) if self.go_backwards else order:
            output, after = step(steps[i], states)
            if counts is not None:
                if held is None:
                    held = tf.zeros_like(output)
                count = tf.reshape(counts[i], (-1, *(1,) * (output.ndim - 1)))
                after = [tf.where(count, n, s) for n, s in zip(after, states, strict=True)]
                zero = self.zero_output_for_mask
                outputs.append(tf.where(count, output, tf.zeros_like(held) if zero else held))
                held = tf.where(count, output, held)
            else:
                outputs.append(output)
                held = output
            states = list(after)
        if self.stateful:
            self._last_states = [tf.stop_gradient(state) for state in states]
        result = tf.stack(outputs, axis=1) if self.return_sequences else held
        return (result, *states) if self.return_state else result

    def _first_states(self, sequences: Any, given: Any) -> list[Any]:
        if given is not None:
            return list(given) if isinstance(given, (list, tuple)) else [given]
        if self.stateful and self._last_states is not None:
            return self._last_states
        batch = sequences.shape[0]
        if hasattr(self.cell, "get_initial_state"):
            return list(self.cell.get_initial_state(batch))
        sizes = self.cell.state_size
        sizes = sizes if isinstance(sizes, (list, tuple)) else [sizes]
        return [tf.zeros((batch, size), self.compute_dtype) for size in sizes]

    def _prepare(self, sequences: Any, states: list[Any], training: bool) -> Any:
        """Returns a function of a step's inputs and the states, and the inputs of all steps."""
        cell = self.cell
        if not hasattr(cell, "project"):

            def call(inputs: Any, states: list[Any]) -> Any:
                return cell(inputs, states)

            return call, tf.unstack(sequences, axis=1)
        factor = None
        if training and cell.dropout:
            ones = tf.ones_like(sequences[:, :1])
            sequences = sequences * cell.dropped(ones, cell.dropout)
        if training and cell.recurrent_dropout:
            factor = cell.dropped(tf.ones_like(states[0]), cell.recurrent_dropout)

        def step(projected: Any, states: list[Any]) -> Any:
            return cell.step(projected, cell.drop_states(states, training, factor))

        return step, tf.unstack(cell.project(sequences), axis=1)

    def reset_state(self) -> None:
        """Lets the next batch begin with zeros."""
        self._last_states = None

    reset_states = reset_state

    def compute_mask(self, inputs: Any, previous_mask: Any = None) -> Any:
        """Returns the mask of the inputs if the outputs have an axis of time."""
        mask = previous_mask[0] if isinstance(previous_mask, list) else previous_mask
        return mask if self.return_sequences else None


# What is told to the layer and not to its cell, and the defaults.
_OF_LAYER: dict[str, Any] = {
    "return_sequences": False,
    "return_state": False,
    "go_backwards": False,
    "stateful": False,
    "unroll": False,
}


class _OfCell(RNN):
    """An `RNN` with a cell of its own, whose arguments it takes too.

    Args:
        units: Number of outputs.
        activity_regularizer: Penalty of the outputs.
        use_cudnn: Ignored.
        **kwargs: Those of the cell, of `RNN` and of `Layer`.
    """

    _cell: type[Any]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        parameters: dict[str, Any] = {}
        for name, default in cls._cell.parameters.items():
            if name == "kernel_constraint":
                parameters["activity_regularizer"] = None
            # Keras has these in another order in the layer than in the cell.
            if name != "reset_after":
                parameters[name] = default
        parameters |= _OF_LAYER
        if "reset_after" in cls._cell.parameters:
            parameters["reset_after"] = cls._cell.parameters["reset_after"]
        if "recurrent_activation" in parameters:
            parameters["use_cudnn"] = "auto"
        else:
            parameters["seed"] = parameters.pop("seed")
        cls.__signature__ = signature(parameters)  # type: ignore[attr-defined]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        given = type(self).__signature__.bind(*args, **kwargs)  # type: ignore[attr-defined]
        given.apply_defaults()
        of_layer = given.arguments.pop("kwargs")
        of_cell = {name: given.arguments[name] for name in ("units", *self._cell.parameters)}
        for name in (*_OF_LAYER, "activity_regularizer"):
            of_layer[name] = given.arguments[name]
        # Inner layers are named for the kind of layer that they are in.
        name = snake_case(self._cell.__name__)
        super().__init__(self._cell(**of_cell, dtype=of_layer.get("dtype"), name=name), **of_layer)
        self.units = self.cell.units


class SimpleRNN(_OfCell):
    """A recurrent layer whose outputs are its states."""

    _cell = SimpleRNNCell


class LSTM(_OfCell):
    """Long short-term memory (Hochreiter and Schmidhuber 1997)."""

    _cell = LSTMCell


class GRU(_OfCell):
    """Gated recurrent unit (Cho et al. 2014)."""

    _cell = GRUCell


class Bidirectional(Layer):
    """Two copies of a recurrent layer, of which one begins at the end.

    Args:
        layer: The layer.
        merge_mode: How outputs are joined: "concat", "sum", "mul", "ave", or None for a list.
        weights: First values of all weights.
        backward_layer: The layer that begins at the end, if it is not a copy.
        **kwargs: Those of `Layer`.
    """

    def __init__(
        self,
        layer: Any,
        merge_mode: str | None = "concat",
        weights: Any = None,
        backward_layer: Any = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if merge_mode not in ("sum", "mul", "ave", "concat", None):
            raise ValueError(f"Invalid merge mode. Received: {merge_mode}")
        self.forward_layer = layer.clone(name=f"forward_{layer.name}")
        backward = backward_layer or layer.clone(
            name=f"backward_{layer.name}", go_backwards=not layer.go_backwards
        )
        if backward.go_backwards is layer.go_backwards:
            raise ValueError(
                "Forward layer and backward layer should have different `go_backwards` value."
            )
        self.backward_layer = backward
        self.merge_mode = merge_mode
        self.return_state = layer.return_state
        self.return_sequences = layer.return_sequences
        self.supports_masking = True
        self._initial_weights = weights

    def call(
        self, sequences: Any, initial_state: Any = None, mask: Any = None, training: bool = False
    ) -> Any:
        """Computes the outputs; the first half of the states is that of the forward layer."""
        before: Any = (None, None)
        if initial_state is not None:
            half = len(initial_state) // 2
            before = (initial_state[:half], initial_state[half:])
        forward = self.forward_layer(sequences, initial_state=before[0], mask=mask)
        backward = self.backward_layer(sequences, initial_state=before[1], mask=mask)
        states: list[Any] = []
        if self.return_state:
            forward, *states = forward
            backward, *others = backward
            states += others
        if self.return_sequences:
            backward = backward[:, ::-1]
        merged = self._merged(forward, backward)
        return (merged, *states) if self.return_state else merged

    def _merged(self, forward: Any, backward: Any) -> Any:
        if self.merge_mode == "concat":
            return tf.concat([forward, backward], axis=-1)
        if self.merge_mode is None:
            return [forward, backward]
        if self.merge_mode == "mul":
            return forward * backward
        total = forward + backward
        return total if self.merge_mode == "sum" else total / 2

    def compute_mask(self, inputs: Any, previous_mask: Any = None) -> Any:
        """Returns the mask of the inputs if the outputs have an axis of time."""
        return previous_mask if self.return_sequences else None


class TimeDistributed(Layer):
    """Applies a layer to each time step.

    Args:
        layer: The layer.
        **kwargs: Those of `Layer`.
    """

    def __init__(self, layer: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.layer = layer
        self.supports_masking = True

    def call(self, inputs: Any) -> Any:
        """Computes the outputs."""
        batch, steps, *rest = inputs.shape
        outputs = self.layer(tf.reshape(inputs, (batch * steps, *rest)))
        return tf.reshape(outputs, (batch, steps, *outputs.shape[1:]))
