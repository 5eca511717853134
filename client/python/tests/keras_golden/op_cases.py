"""Expressions of keras.ops that are computed with Keras and with this package; see `cases.py`."""

from __future__ import annotations

from typing import Any

import numpy as np
from cases import IDS, wave

_X, _Y = wave(3, 4), wave(3, 4, start=0.5)
_NAN = np.where(np.abs(_X) < 0.3, np.nan, _X).astype(np.float32)
_WHOLE = np.array([[3, -1, 4], [1, -5, 9]], np.int32)

_UNARY = """
    abs absolute negative sign square arcsin arccos arctan arctanh arcsinh cos cosh erf erfc
    erfinv exp expm1 sin sinh tan tanh reciprocal ceil floor trunc round cbrt exp2 deg2rad
    rad2deg sinc isnan isinf isfinite signbit relu relu6 gelu silu softplus sigmoid
    log_sigmoid hard_sigmoid softmax log_softmax elu selu celu sum mean std var max min prod
    amax amin ptp argmax argmin any all median cumsum cumprod diff ravel transpose flip fliplr
    flipud rot90 sort argsort tril triu diagonal trace logsumexp zeros_like ones_like
    count_nonzero corrcoef softsign tanh_shrink nan_to_num normalize
"""
_BINARY = """
    add subtract multiply divide true_divide maximum minimum floor_divide mod fmod equal
    not_equal less less_equal greater greater_equal arctan2 hypot logaddexp logaddexp2
    heaviside isclose fmax fmin inner outer vdot kron append cdist divide_no_nan
"""

# Expressions and what x, y and z stand for. O is keras.ops.
OPS: list[tuple[str, list[Any]]] = [
    *[
        (f"O.{name}(x)", [_X])
        for name in _UNARY.split()
    ],
    *[
        (f"O.{name}(x)", [np.abs(_X) + 0.1])
        for name in ["sqrt", "rsqrt", "log", "log2", "log10", "log1p"]
    ],
    ("O.arccosh(x)", [np.abs(_X) + 1.1]),
    *[
        (f"O.{name}(x, y)", [_X, _Y])
        for name in _BINARY.split()
    ],
    *[
        (f"O.{name}(x)", [_NAN])
        for name in ["nansum", "nanmean", "nanmax", "nanmin", "nanprod", "nanvar", "nanstd",
                     "nancumsum", "nancumprod"]
    ],
    ("O.nanmean(x, axis=1, keepdims=True)", [_NAN]),
    ("O.nan_to_num(x, nan=2.0)", [_NAN]),
    ("O.power(x, 3)", [_X]),
    ("O.add(x, 1)", [_WHOLE]),
    ("O.add(x, 1.5)", [_WHOLE]),
    ("O.add(x, y)", [_WHOLE, wave(3)]),
    ("O.divide(x, 2)", [_WHOLE]),
    ("O.mean(x, axis=0)", [_WHOLE]),
    ("O.sqrt(O.abs(x))", [_WHOLE]),
    ("O.bitwise_and(x, y)", [_WHOLE, _WHOLE[::-1]]),
    ("O.left_shift(O.abs(x), 2)", [_WHOLE]),
    ("O.logical_xor(x > 0, y > 0)", [_X, _Y]),
    ("O.clip(x, -0.5, 0.5)", [_X]),
    ("O.round(x, 1)", [_X]),
    ("O.where(x > 0, x, 0.0)", [_X]),
    ("O.select([x > 0.5, x < -0.5], [x, -x], 0.25)", [_X]),
    ("O.sum(x, axis=(0, 1), keepdims=True)", [_X]),
    ("O.max(x, axis=1, initial=0.5)", [_X]),
    ("O.argmax(x, axis=1, keepdims=True)", [_X]),
    ("O.average(x, axis=1, weights=y)", [_X, np.array([1.0, 2.0, 0.5, 1.5], np.float32)]),
    ("O.moments(x, axes=[0])", [_X]),
    ("O.quantile(x, 0.3, axis=1)", [_X]),
    ("O.quantile(x, y, axis=0)", [_X, np.array([0.25, 0.6], np.float32)]),
    ("O.percentile(x, 40.0, method='lower')", [_X]),
    ("O.norm(x)", [_X]),
    ("O.norm(x, ord=1, axis=1)", [_X]),
    ("O.bincount(x)", [np.array([0, 3, 1, 1], np.int32)]),
    ("O.trapezoid(x, dx=0.5)", [_X]),
    ("O.trapezoid(x, y)", [_X, np.array([0.0, 0.5, 1.5, 2.0], np.float32)]),
    ("O.arange(2, 11, 3)", []),
    ("O.arange(0.5)", []),
    ("O.linspace(1, 2, 5)", []),
    ("O.linspace(x, 2.0, 3, endpoint=False)", [wave(2)]),
    ("O.logspace(0, 1, 3)", []),
    ("O.eye(2, 3, 1)", []),
    ("O.identity(2)", []),
    ("O.tri(3, 2, -1)", []),
    ("O.full((2, 2), 3.5)", []),
    ("O.full_like(x, 2.0)", [_X]),
    ("O.meshgrid(x, y)", [wave(2), wave(3)]),
    ("O.meshgrid(x, y, indexing='ij')", [wave(2), wave(3)]),
    *[(f"O.{name}(5)", []) for name in ("bartlett", "blackman", "hamming", "hanning")],
    ("O.kaiser(5, 2.0)", []),
    ("O.reshape(x, (2, -1))", [_X]),
    ("O.moveaxis(x, 0, 2)", [wave(2, 3, 4)]),
    ("O.swapaxes(x, 0, 2)", [wave(2, 3, 4)]),
    ("O.expand_dims(x, (0, 2))", [_X]),
    ("O.squeeze(x)", [wave(1, 3, 1)]),
    ("O.roll(x, 2)", [_X]),
    ("O.roll(x, -1, axis=1)", [_X]),
    ("O.concatenate([x, y], axis=1)", [_X, _Y]),
    ("O.stack([x, y], axis=1)", [_X, _Y]),
    ("O.unstack(x, axis=1)", [_X]),
    ("O.hstack([x, y])", [_X, _Y]),
    ("O.vstack([x, y])", [_X, _Y]),
    ("O.dstack([x, y])", [_X, _Y]),
    ("O.split(x, 2, axis=1)", [_X]),
    ("O.split(x, [1, 3], axis=1)", [_X]),
    ("O.array_split(x, 3, axis=1)", [_X]),
    ("O.hsplit(x, 2)", [_X]),
    ("O.vsplit(x, 3)", [_X]),
    ("O.tile(x, (2, 1))", [_X]),
    ("O.repeat(x, 2, axis=1)", [_X]),
    ("O.repeat(x, 2)", [_X]),
    ("O.pad(x, ((1, 0), (0, 2)), constant_values=0.5)", [_X]),
    ("O.pad(x, ((1, 1), (1, 1)), mode='reflect')", [_X]),
    ("O.take(x, [2, -1], axis=0)", [_X]),
    ("O.take(x, 5)", [_X]),
    ("O.take_along_axis(x, y, axis=1)", [_X, np.array([[0, 3], [1, 1], [2, 0]], np.int32)]),
    ("O.slice(x, (1, 0), (2, 3))", [_X]),
    ("O.slice_update(x, (1, 2), y)", [_X, wave(2, 2, start=2.0)]),
    ("O.scatter(y, x, (4, 2))", [wave(2, 2), np.array([[3], [0]], np.int32)]),
    ("O.scatter_update(x, y, z)", [_X, np.array([[0, 1], [2, 3]], np.int32), wave(2)]),
    ("O.top_k(x, 2)", [_X]),
    ("O.searchsorted(x, y, side='right')", [np.sort(wave(5)), wave(3)]),
    ("O.digitize(x, [-0.5, 0.0, 0.5])", [_X]),
    ("O.diag(x)", [wave(3)]),
    ("O.diag(x, k=1)", [_X]),
    ("O.diagonal(x, 1)", [_X]),
    ("O.unravel_index(x, (2, 3))", [np.array([1, 5], np.int32)]),
    ("O.isin(x, [1, 9])", [_WHOLE]),
    ("O.vander(x, 3)", [wave(3)]),
    ("O.matmul(x, O.transpose(y))", [_X, _Y]),
    ("O.matmul(x, y)", [_X, wave(4)]),
    ("O.dot(x, y)", [_X, wave(4, 2)]),
    ("O.tensordot(x, y, axes=[[1], [1]])", [_X, _Y]),
    ("O.einsum('ij,kj->ik', x, y)", [_X, _Y]),
    ("O.cross(x, y)", [wave(2, 3), wave(2, 3, start=0.7)]),
    ("O.one_hot(x, 4)", [IDS]),
    ("O.multi_hot(x, 4)", [IDS]),
    ("O.gelu(x, approximate=False)", [_X]),
    ("O.leaky_relu(x, 0.1)", [_X]),
    ("O.glu(x)", [_X]),
    ("O.threshold(x, 0.2, -1.0)", [_X]),
    ("O.binary_crossentropy(x, y)", [(_X > 0).astype("f"), np.abs(_Y)]),
    ("O.categorical_crossentropy(x, y)", [np.eye(4, dtype="f")[[0, 2, 1]], np.abs(_Y)]),
    ("O.sparse_categorical_crossentropy(x, y, from_logits=True)",
     [np.array([0, 2, 1]), _Y]),
    ("O.normalize(x, axis=0, order=1)", [_X]),
    ("O.batch_normalization(x, y, O.abs(y), 1, z, z)", [_X, wave(4), wave(4, start=1.0)]),
    ("O.layer_normalization(x, y, y, epsilon=1e-3)", [_X, wave(4)]),
    ("O.layer_normalization(x, y, axis=0)", [_X, wave(3)]),
    ("O.layer_normalization(x, None, y, axis=(0, 1))", [_X, wave(3, 4)]),
    ("O.rms_normalization(x, y)", [_X, wave(4)]),
    ("O.conv(x, y, 2, padding='same')", [wave(1, 5, 4, 2), wave(2, 3, 2, 3)]),
    ("O.depthwise_conv(x, y)", [wave(1, 5, 4, 2), wave(2, 3, 2, 1)]),
    ("O.separable_conv(x, y, z)",
     [wave(1, 5, 4, 2), wave(2, 3, 2, 1), wave(1, 1, 2, 3)]),
    ("O.conv_transpose(x, y, 2)", [wave(1, 3, 4, 2), wave(2, 3, 3, 2)]),
    ("O.conv_transpose(x, y, 2, 'same', output_padding=1)", [wave(1, 4, 2), wave(3, 3, 2)]),
    ("O.depth_to_space(x, 2)", [wave(1, 2, 3, 4)]),
    ("O.space_to_depth(x, 2)", [wave(1, 4, 2, 3)]),
    ("O.nanargmax(x, axis=1)", [_NAN]),
    ("O.nanargmin(x)", [_NAN]),
    ("O.max_pool(x, 2)", [wave(1, 5, 4, 2)]),
    ("O.average_pool(x, 2, 1, padding='same')", [wave(1, 5, 4, 2)]),
    ("O.adaptive_average_pool(x, 2)", [wave(1, 5, 4, 2)]),
    ("O.dot_product_attention(x, y, y)", [wave(1, 2, 2, 3), wave(1, 4, 2, 3, start=1.0)]),
    ("O.dot_product_attention(x, x, x, is_causal=True)", [wave(1, 3, 2, 3)]),
    ("O.psnr(x, y, 2.0)", [_X, _Y]),
    ("O.segment_sum(x, y, 4)", [_X, np.array([0, 2, 2], np.int32)]),
    ("O.cast(x, 'int32')", [3.0 * _X]),
    ("O.while_loop(lambda i, s: i < 3, lambda i, s: (i + 1, s * 2.0), (0, x))", [_X]),
    ("O.fori_loop(0, 3, lambda i, s: s + x, x)", [_X]),
    ("O.map(lambda r: O.sum(r) * r, x)", [_X]),
    ("O.scan(lambda s, r: (s + r, s * r), y, x)", [_X, wave(4)]),
    ("O.switch(1, [lambda a: a, lambda a: -a], x)", [_X]),
]  # fmt: skip
