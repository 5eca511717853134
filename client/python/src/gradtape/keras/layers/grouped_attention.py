"""Attention whose heads share keys and values in groups."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

import gradtape as tf
from gradtape.keras.layers.attention import (
    _EXCLUDED,
    MultiHeadAttention,
    _Projection,
    attention_in_place,
    near_mask,
)
from gradtape.keras.layers.base import Layer


class GroupQueryAttention(Layer):
    """Attention with fewer heads of keys and values than of queries (Ainslie et al. 2023).

    Args:
        head_dim: Length of queries, keys and values.
        num_query_heads: Number of heads of queries.
        num_key_value_heads: Number of heads of keys and values, a divisor of the other.
        dropout: Share of the weights that is dropped while training.
        use_bias: Whether the projections have biases.
        sliding_window: How near a source must be to be seen; there is no limit by default.
        flash_attention: Ignored.
        kernel_initializer: First values of the kernels.
        bias_initializer: First values of the biases.
        kernel_regularizer: Penalty of the kernels.
        bias_regularizer: Penalty of the biases.
        activity_regularizer: Penalty of the outputs.
        kernel_constraint: What the kernels must be like after each step.
        bias_constraint: What the biases must be like after each step.
        use_gate: Whether the outputs of the heads are multiplied by a sigmoid of the queries.
        seed: Seed of the dropped share.
        **kwargs: Those of `Layer`.
    """

    saved_name = "grouped_query_attention"
    saved_as = {  # noqa: RUF012 - a constant of the class
        "_query": "_query_dense",
        "_key": "_key_dense",
        "_value": "_value_dense",
        "_gate": "_gate_dense",
        "_output": "_output_dense",
    }

    def __init__(
        self,
        head_dim: int,
        num_query_heads: int,
        num_key_value_heads: int,
        dropout: float = 0.0,
        use_bias: bool = True,
        sliding_window: int | None = None,
        flash_attention: Any = None,
        kernel_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        kernel_regularizer: Any = None,
        bias_regularizer: Any = None,
        activity_regularizer: Any = None,
        kernel_constraint: Any = None,
        bias_constraint: Any = None,
        use_gate: bool = False,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(activity_regularizer=activity_regularizer, **kwargs)
        if num_query_heads % num_key_value_heads:
            raise ValueError("`num_query_heads` must be divisible by `num_key_value_heads`.")
        self.head_dim, self.num_query_heads = head_dim, num_query_heads
        self.num_key_value_heads = num_key_value_heads
        self.dropout, self.use_bias, self.seed = dropout, use_bias, seed
        self.sliding_window, self.use_gate = sliding_window, use_gate
        self.supports_masking = True
        self._kinds = (
            (kernel_initializer, kernel_regularizer, kernel_constraint),
            (bias_initializer, bias_regularizer, bias_constraint),
        )

    def build(  # type: ignore[override]
        self, query_shape: Any, value_shape: Any, key_shape: Any = None
    ) -> None:
        """Makes the projections."""

        def projection(name: str, inputs: int, shape: tuple[int, ...]) -> _Projection:
            return _Projection(
                inputs, shape, self.use_bias, self._kinds, name=name, dtype=self.dtype_policy
            )

        shared = (self.num_key_value_heads, self.head_dim)
        self._query = projection("query", 1, (self.num_query_heads, self.head_dim))
        self._key = projection("key", 1, shared)
        self._gate = None
        if self.use_gate:
            self._gate = projection("gate", 1, (self.num_query_heads, self.head_dim))
        self._value = projection("value", 1, shared)
        self._output = projection("attention_output", 2, (query_shape[-1],))

    def call(
        self,
        query: Any,
        value: Any,
        key: Any = None,
        query_mask: Any = None,
        value_mask: Any = None,
        key_mask: Any = None,
        attention_mask: Any = None,
        return_attention_scores: bool = False,
        training: bool = False,
        use_causal_mask: bool = False,
    ) -> Any:
        """Computes the outputs; the arguments are those of `MultiHeadAttention`."""
        key = value if key is None else key
        masks = (query_mask, value_mask, key_mask)
        drops = training and bool(self.dropout)
        is_one_op = not drops and not return_attention_scores
        causal = use_causal_mask and is_one_op
        mask = MultiHeadAttention._mask(
            query, value, key, masks, attention_mask, use_causal_mask and not causal
        )
        if self.sliding_window is not None:
            near = near_mask(query.shape[1], value.shape[1], self.sliding_window)
            mask = tf.constant(near) if mask is None else tf.logical_and(mask, near)
        queries, keys, values = self._query(query), self._key(key), self._value(value)
        gate = None if self._gate is None else tf.sigmoid(self._gate(query))
        heads = np.arange(self.num_query_heads, dtype=np.int32)
        shared = heads * self.num_key_value_heads // self.num_query_heads
        keys, values = (tf.gather(x, shared, axis=2) for x in (keys, values))
        weights = None
        if is_one_op:
            means = attention_in_place(queries, keys, values, mask, causal)
        else:
            means, weights = self._by_weights(queries, keys, values, mask, drops)
        outputs = self._output(means if gate is None else means * gate)
        return (outputs, weights) if return_attention_scores else outputs

    def _by_weights(self, queries: Any, keys: Any, values: Any, mask: Any, drops: bool) -> Any:
        """Returns the heads' means of the values, and the weights that these are of."""
        queries, keys, values = (tf.transpose(x, (0, 2, 1, 3)) for x in (queries, keys, values))
        scores = tf.matmul(queries, keys, transpose_b=True) * (1.0 / math.sqrt(self.head_dim))
        if mask is not None:
            scores = tf.where(tf.expand_dims(mask, -3), scores, scores + _EXCLUDED)
        weights = tf.nn.softmax(scores)
        dropped = weights
        if drops:
            dropped = tf.nn.dropout(weights, self.dropout, seed=self.seed)
        return tf.transpose(tf.matmul(dropped, values), (0, 2, 1, 3)), weights

    def compute_mask(self, inputs: Any, previous_mask: Any = None) -> Any:
        """Returns the mask of the queries."""
        return previous_mask
