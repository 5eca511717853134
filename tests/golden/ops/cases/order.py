"""Positions of extremes, sorting, searching, and picking along an axis."""

import jax.numpy as jnp
import numpy as np
import tensorflow as tf
from make import array, case, integers, uniform

NAN = float("nan")
TIES = array([[3.0, 1.0, 3.0, 2.0], [0.0, 0.0, 5.0, 5.0]])


def scatter(x, indices, axis, extent):
    """Adds into zeros along an axis."""
    shape = list(x.shape)
    shape[axis] = extent
    places = list(jnp.indices(x.shape))
    places[axis] = indices
    return jnp.zeros(shape, x.dtype).at[tuple(places)].add(x)


CASES = [
    case("argmax", [TIES], lambda x: tf.argmax(x, 1), axis=1),
    case("argmax", [uniform([3, 4])], tf.argmax),
    case("argmax", [array([1.0, NAN, 3.0, NAN])], np.argmax, by="numpy"),
    case("argmin", [TIES], lambda x: tf.argmin(x, 1), axis=-1),
    case("argmin", [integers([3, 4], -9, 9)], tf.argmin),
    case("sort", [uniform([2, 5])], tf.sort),
    case("sort", [uniform([5, 2], dtype="float64")], lambda x: tf.sort(x, 0, "DESCENDING"), axis=0, descending=True),
    case("sort", [integers([2, 5], -9, 9)], tf.sort),
    case("sort", [TIES], jnp.sort, by="jax"),
    case("sort", [array([2.0, NAN, -1.0, float("inf")])], np.sort, by="numpy"),
    case("sort", [array([])], jnp.sort, by="jax"),
    case("argsort", [TIES], lambda x: np.argsort(x, stable=True), by="numpy"),
    case("argsort", [TIES], lambda x: np.argsort(-x, stable=True), by="numpy", descending=True),
    case("argsort", [uniform([5, 2])], lambda x: tf.cast(tf.argsort(x, 0), tf.int64), axis=0),
    case("top_k_indices", [TIES], lambda x: tf.math.top_k(x, 2, index_type=tf.int64).indices, k=2),
    case("top_k_indices", [uniform([2, 3, 7])], lambda x: tf.math.top_k(x, 3, index_type=tf.int64).indices, k=3),
    case("top_k_indices", [integers([9], 0, 4)], lambda x: tf.math.top_k(x, 9, index_type=tf.int64).indices, k=9),
    case("searchsorted", [array([1.0, 2.0, 2.0, 4.0]), array([0.0, 1.0, 2.0, 3.0, 4.0, 5.0])], lambda s, v: tf.searchsorted(s, v, out_type=tf.int64)),
    case("searchsorted", [array([1.0, 2.0, 2.0, 4.0]), array([0.0, 1.0, 2.0, 3.0, 4.0, 5.0])], lambda s, v: tf.searchsorted(s, v, "right", tf.int64), right=True),
    case("searchsorted", [array([[1, 3, 5], [2, 4, 6]], "int64"), array([[3, 9], [3, 4]], "int64")], lambda s, v: tf.searchsorted(s, v, out_type=tf.int64)),
    case("in_top_k", [array([0, 1, 2, 3], "int64"), array([[0.3, 0.3, 0.1, 0.2], [0.1, 0.2, 0.3, 0.4], [NAN, 0.1, 0.9, 0.1], [1.0, 2.0, 3.0, 4.0]])], lambda t, p: tf.math.in_top_k(t, p, 2), k=2),
    case("in_top_k", [array([5, -1], "int64"), uniform([2, 3])], lambda t, p: tf.math.in_top_k(t, p, 3), k=3),
    case("take_along_axis", [uniform([3, 4]), integers([3, 2], 0, 4)], lambda x, i: tf.gather(x, i, batch_dims=1), axis=-1),
    case("take_along_axis", [uniform([3, 4]), integers([5, 4], 0, 3)], lambda x, i: jnp.take_along_axis(x, i, 0), by="jax", axis=0),
    case("scatter_along_axis", [uniform([3, 2]), integers([3, 2], 0, 4)], lambda x, i: scatter(x, i, 1, 4), by="jax", axis=1, extent=4),
    case("scatter_along_axis", [uniform([5, 4]), integers([5, 4], 0, 3)], lambda x, i: scatter(x, i, 0, 3), by="jax", axis=0, extent=3),
]
