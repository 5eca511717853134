"""Attention layers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

import gradtape as tf
from gradtape._ops import scaled_dot_product_attention
from gradtape.keras.layers.base import Layer, mask_of

# What is added to the scores of positions that do not count, as in Keras.
_EXCLUDED = -1e9


def _causal(rows: int, columns: int) -> Any:
    """Returns the mask by which a position sees itself and what is before it."""
    return np.tril(np.ones((1, rows, columns), bool))


def near_mask(rows: int, columns: int, window: int) -> Any:
    """Returns the mask by which a position sees what is less than a window away."""
    return (np.abs(np.arange(rows)[:, None] - np.arange(columns)) < window)[None]


def _all_of(masks: list[Any]) -> Any:
    """Returns where all masks that are given hold; None without any."""
    found = None
    for mask in masks:
        if mask is not None:
            mask = tf.cast(mask, tf.bool)
            found = mask if found is None else tf.logical_and(found, mask)
    return found


def _joined(x: Any, count: int, rest: int = 1) -> Any:
    """Makes one of the axes before the last one, or before so many."""
    if count == 1:
        return x
    start = x.ndim - rest - count
    return tf.reshape(x, (*x.shape[:start], math.prod(x.shape[start:-rest]), *x.shape[-rest:]))


def attention_in_place(
    queries: Any, keys: Any, values: Any, mask: Any, causal: bool = False
) -> Any:
    """Returns the heads' means of the values, by the op that keeps no weights.

    Args:
        queries: Tensor of shape [batch, ..., targets, heads, features].
        keys: Tensor of shape [batch, ..., sources, heads, features].
        values: Tensor of the same shape, but for the features.
        mask: Which targets see which sources, for all heads; all by default.
        causal: Whether a position sees only itself and what is before it.
    """
    # One axis more, for the heads.
    seen = tf.constant(True) if mask is None else tf.expand_dims(mask, -3)
    return scaled_dot_product_attention(
        queries, keys, values, seen, causal=causal, qkv_layout="BTNH"
    )


class _Projection(Layer):
    """A linear map of the last axes, such as [features] to [heads, size], with its weights so."""

    def __init__(
        self, inputs: int, shape: Sequence[int], use_bias: bool, kinds: Any, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        # How many of the last axes are mapped, and what they become.
        self._mapped, self._shape = inputs, tuple(shape)
        self.use_bias, self._kinds = use_bias, kinds

    def build(self, input_shape: Any) -> None:
        """Makes kernel and bias."""
        before = tuple(input_shape[-self._mapped :])
        self.kernel = self.add_kernel((*before, *self._shape), self._kinds[0], "kernel")
        self._matrix = (math.prod(before), math.prod(self._shape))
        self.bias = None
        if self.use_bias:
            self.bias = self.add_kernel(self._shape, self._kinds[1], "bias")

    def call(self, inputs: Any) -> Any:
        """Computes the outputs."""
        shape = list(inputs.shape[: -self._mapped])
        rows = tf.reshape(inputs, (*shape, self._matrix[0]))
        outputs = tf.matmul(rows, tf.reshape(self.kernel, self._matrix))
        outputs = tf.reshape(outputs, (*shape, *self._shape))
        return outputs if self.bias is None else outputs + self.bias


class MultiHeadAttention(Layer):
    """Attention with several heads (Vaswani et al. 2017).

    Args:
        num_heads: Number of heads.
        key_dim: Length of queries and keys.
        value_dim: Length of values; that of keys by default.
        dropout: Share of the weights that is dropped while training.
        use_bias: Whether the projections have biases.
        output_shape: Shape of an output; the last extent of the queries by default.
        attention_axes: The axes that attention is over; all but the first and the last by default.
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

    saved_as = {  # noqa: RUF012 - a constant of the class
        "_query": "query_dense",
        "_key": "key_dense",
        "_value": "value_dense",
        "_gate": "gate_dense",
        "_output": "output_dense",
    }

    def __init__(
        self,
        num_heads: int,
        key_dim: int,
        value_dim: int | None = None,
        dropout: float = 0.0,
        use_bias: bool = True,
        output_shape: Any = None,
        attention_axes: Any = None,
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
        self.sliding_window, self.use_gate = sliding_window, use_gate
        axes = (attention_axes,) if isinstance(attention_axes, int) else attention_axes
        self.attention_axes = None if axes is None else tuple(axes)
        self.num_heads, self.key_dim = num_heads, key_dim
        self.value_dim = value_dim or key_dim
        self.dropout, self.use_bias, self.seed = dropout, use_bias, seed
        self.output_shape = (output_shape,) if isinstance(output_shape, int) else output_shape
        self.supports_masking = True
        self._kinds = (
            (kernel_initializer, kernel_regularizer, kernel_constraint),
            (bias_initializer, bias_regularizer, bias_constraint),
        )

    def build(  # type: ignore[override]
        self, query_shape: Any, value_shape: Any, key_shape: Any = None
    ) -> None:
        """Makes the projections."""

        def projection(name: str, inputs: int, shape: Sequence[int]) -> _Projection:
            return _Projection(
                inputs, shape, self.use_bias, self._kinds, name=name, dtype=self.dtype_policy
            )

        self._query = projection("query", 1, (self.num_heads, self.key_dim))
        self._key = projection("key", 1, (self.num_heads, self.key_dim))
        self._gate = None
        if self.use_gate:
            self._gate = projection("gate", 1, (self.num_heads, self.value_dim))
        self._value = projection("value", 1, (self.num_heads, self.value_dim))
        outputs = self.output_shape or (query_shape[-1],)
        self._output = projection("attention_output", 2, outputs)

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
        """Computes the outputs.

        Args:
            query: Tensor of shape [batch, targets, features].
            value: Tensor of shape [batch, sources, features].
            key: Tensor of the same shape; `value` by default.
            query_mask: Which targets count, of shape [batch, targets].
            value_mask: Which sources count, of shape [batch, sources].
            key_mask: Which sources count, of shape [batch, sources].
            attention_mask: Which targets see which sources, of shape [batch, targets, sources].
            return_attention_scores: Whether to return the weights too.
            training: Whether to drop a share of the weights.
            use_causal_mask: Whether a position sees only itself and what is before it.
        """
        key = value if key is None else key
        axes = self.attention_axes or tuple(range(1, query.ndim - 1))
        axes = tuple(axis % query.ndim for axis in axes)
        others = tuple(axis for axis in range(1, query.ndim - 1) if axis not in axes)
        drops = training and bool(self.dropout)
        side_by_side = (*others, *axes) == tuple(range(1, query.ndim - 1))
        is_one_op = side_by_side and not drops and not return_attention_scores
        causal = use_causal_mask and is_one_op and query.ndim == 3
        masks = (query_mask, value_mask, key_mask)
        mask = self._mask(query, value, key, masks, attention_mask, use_causal_mask and not causal)
        if self.sliding_window is not None:
            near = near_mask(query.shape[1], value.shape[1], self.sliding_window)
            mask = tf.constant(near) if mask is None else tf.logical_and(mask, near)
        heads = [self._query(query), self._key(key), self._value(value)]
        weights: Any = None
        if is_one_op:
            queries, keys, values = (_joined(x, len(axes), 2) for x in heads)
            if mask is not None and len(axes) > 1:
                places = (queries.shape[-3], keys.shape[-3])
                mask = tf.reshape(mask, (*mask.shape[: -2 * len(axes)], *places))
            means = attention_in_place(queries, keys, values, mask, causal)
            if len(axes) > 1:
                means = tf.reshape(means, (*heads[0].shape[:-1], means.shape[-1]))
        else:
            means, weights = self._by_weights(heads, mask, others, axes, drops)
        if self._gate is not None:
            means = means * tf.sigmoid(self._gate(query))
        outputs = self._output(means)
        if return_attention_scores and len(axes) > 1:
            extents = [x.shape[axis] for x in (query, key) for axis in axes]
            weights = tf.reshape(weights, (*weights.shape[:-2], *extents))
        return (outputs, weights) if return_attention_scores else outputs

    def _by_weights(
        self,
        heads: list[Any],
        mask: Any,
        others: tuple[int, ...],
        axes: tuple[int, ...],
        drops: bool,
    ) -> Any:
        """Returns the heads' means of the values, and the weights that these are of."""
        rank = heads[0].ndim
        # Batch, axes without attention, heads, axes with attention as one, features.
        order = (0, *others, rank - 2, *axes, rank - 1)
        queries, keys, values = (_joined(tf.transpose(x, order), len(axes)) for x in heads)
        queries = queries * (1.0 / math.sqrt(self.key_dim))
        scores = tf.matmul(queries, keys, transpose_b=True)
        if mask is not None:
            if len(axes) > 1:
                mask = tf.reshape(mask, (*mask.shape[: -2 * len(axes)], *scores.shape[-2:]))
            # One axis more, for the heads.
            mask = tf.expand_dims(mask, -3)
            least = max(_EXCLUDED, float(scores.dtype.min) / 2.0)
            scores = scores + (1.0 - tf.cast(mask, scores.dtype)) * least
        weights = tf.nn.softmax(scores)
        dropped = weights
        if drops:
            dropped = tf.nn.dropout(weights, self.dropout, seed=self.seed)
        means = tf.matmul(dropped, values)
        sizes = [heads[0].shape[axis] for axis in axes]
        means = tf.reshape(means, (*means.shape[:-2], *sizes, means.shape[-1]))
        return tf.transpose(means, [order.index(axis) for axis in range(rank)]), weights

    @staticmethod
    def _mask(
        query: Any, value: Any, key: Any, masks: Any, attention_mask: Any, causal: bool
    ) -> Any:
        given = [
            mask_of(x) if mask is None else mask
            for x, mask in zip((query, value, key), masks, strict=True)
        ]
        of_query, of_value, of_key = given
        return _all_of(
            [
                None if of_query is None else tf.expand_dims(of_query, -1),
                None if of_value is None else tf.expand_dims(of_value, -2),
                None if of_key is None or key is value else tf.expand_dims(of_key, -2),
                _causal(query.shape[1], value.shape[1]) if causal else None,
                attention_mask,
            ]
        )

    def compute_mask(self, inputs: Any, previous_mask: Any = None) -> Any:
        """Returns the mask of the queries."""
        return previous_mask


class Attention(Layer):
    """Dot-product attention (Luong et al. 2015).

    Args:
        use_scale: Whether the scores have a factor that is learned.
        score_mode: "dot", or "concat" for the tanh of the sum.
        dropout: Share of the weights that is dropped while training.
        seed: Seed of the dropped share.
        **kwargs: Those of `Layer`.
    """

    def __init__(
        self,
        use_scale: bool = False,
        score_mode: str = "dot",
        dropout: float = 0.0,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if score_mode not in ("dot", "concat"):
            raise ValueError(f"Invalid value for argument score_mode: {score_mode!r}")
        self.use_scale, self.score_mode = use_scale, score_mode
        self.dropout, self.seed = dropout, seed
        self.supports_masking = True

    def build(self, input_shape: Any) -> None:
        """Makes the factors that are learned."""
        self.scale = self.concat_score_weight = None
        if self.use_scale:
            self.scale = self.add_weight((), "ones", name="scale")
        if self.score_mode == "concat":
            self.concat_score_weight = self.add_weight((), "ones", name="concat_score_weight")

    def call(
        self,
        inputs: Sequence[Any],
        mask: Any = None,
        training: bool = False,
        return_attention_scores: bool = False,
        use_causal_mask: bool = False,
    ) -> Any:
        """Computes the outputs.

        Args:
            inputs: Queries of shape [batch, targets, features], values of shape [batch, sources,
                features], and keys like them; the values by default.
            mask: Which queries and which values count.
            training: Whether to drop a share of the weights.
            return_attention_scores: Whether to return the weights too.
            use_causal_mask: Whether a position sees only itself and what is before it.
        """
        query, value = inputs[0], inputs[1]
        key = inputs[2] if len(inputs) > 2 else value
        of_query, of_value = (None, None) if mask is None else (mask[0], mask[1])
        scores = self._scores(query, key)
        counts = _all_of(
            [
                None if of_value is None else tf.expand_dims(of_value, -2),
                _causal(query.shape[1], value.shape[1]) if use_causal_mask else None,
            ]
        )
        if counts is not None:
            scores = tf.where(counts, scores, scores + _EXCLUDED)
        weights = tf.nn.softmax(scores)
        if training and self.dropout:
            weights = tf.nn.dropout(weights, self.dropout, seed=self.seed)
        outputs = tf.matmul(weights, value)
        if of_query is not None:
            outputs = outputs * tf.cast(tf.expand_dims(of_query, -1), outputs.dtype)
        return (outputs, weights) if return_attention_scores else outputs

    def _scores(self, query: Any, key: Any) -> Any:
        if self.score_mode == "dot":
            scores = tf.matmul(query, key, transpose_b=True)
            return scores if self.scale is None else scores * self.scale
        total = tf.expand_dims(query, -2) + tf.expand_dims(key, -3)
        if self.scale is not None:
            total = self.scale * total
        return self.concat_score_weight * tf.reduce_sum(tf.tanh(total), axis=-1)

    def compute_mask(self, inputs: Any, previous_mask: Any = None) -> Any:
        """Returns the mask of the queries."""
        return None if previous_mask is None else previous_mask[0]


class AdditiveAttention(Attention):
    """Additive attention (Bahdanau et al. 2015).

    Args:
        use_scale: Whether the scores have factors that are learned.
        dropout: Share of the weights that is dropped while training.
        **kwargs: Those of `Layer`.
    """

    def __init__(self, use_scale: bool = True, dropout: float = 0.0, **kwargs: Any) -> None:
        super().__init__(use_scale=use_scale, dropout=dropout, **kwargs)

    def build(self, input_shape: Any) -> None:
        """Makes the factors that are learned, one for each feature."""
        self.scale = None
        if self.use_scale:
            self.scale = self.add_weight((input_shape[0][-1],), "glorot_uniform", name="scale")

    def _scores(self, query: Any, key: Any) -> Any:
        total = tf.tanh(tf.expand_dims(query, -2) + tf.expand_dims(key, -3))
        return tf.reduce_sum(total if self.scale is None else self.scale * total, axis=-1)
