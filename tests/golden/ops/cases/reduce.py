"""Reductions."""

import tensorflow as tf
from make import array, booleans, case, integers, uniform

INF, NAN = float("inf"), float("nan")


def reduction(op, oracle, low=-2.0, high=2.0):
    """Every way to say which axes go, an empty tensor, and double precision."""
    return [
        case(op, [uniform([2, 3], low, high)], oracle),
        case(op, [uniform([2, 3, 4], low, high)], lambda x: oracle(x, [0, -1]), axis=[0, -1]),
        case(op, [uniform([2, 3, 4], low, high, "float64")], lambda x: oracle(x, 1, True), axis=[1], keepdims=True),
        case(op, [array([])], oracle),
        case(op, [array(1.5)], oracle, gradients=op not in ("reduce_std",)),
    ]


CASES = [
    case("reduce_sum", [uniform([2, 3])], lambda x: tf.reduce_sum(x, 1), axis=[1]),
    case("reduce_max", [array([[1.0, 3.0, 3.0]])], lambda x: tf.reduce_max(x, 1), axis=[1]),
    *reduction("reduce_sum", tf.reduce_sum),
    case("reduce_sum", [integers([2, 3], -9, 9)], tf.reduce_sum),
    *reduction("reduce_mean", tf.reduce_mean),
    *reduction("reduce_prod", tf.reduce_prod),
    case("reduce_prod", [integers([2, 3], -9, 9)], tf.reduce_prod),
    case("reduce_prod", [array([0.0, 2.0, 3.0])], tf.reduce_prod),
    case("reduce_prod", [array([[0.0, 2.0, 0.0], [1.0, 0.0, 3.0]])], lambda x: tf.reduce_prod(x, 1), axis=[1]),
    *reduction("reduce_max", tf.reduce_max),
    case("reduce_max", [array([1.0, NAN, 3.0])], tf.reduce_max, gradients=False),
    *reduction("reduce_min", tf.reduce_min),
    case("reduce_min", [array([[2.0, 1.0, 1.0]])], lambda x: tf.reduce_min(x, 1), axis=[1]),
    case("reduce_min", [integers([2, 3], -9, 9, )], tf.reduce_min),
    *reduction("reduce_logsumexp", tf.reduce_logsumexp),
    case("reduce_logsumexp", [array([[-INF, 1.0, 2.0], [1000.0, 1000.0, 0.0]])], lambda x: tf.reduce_logsumexp(x, 1), axis=[1]),
    case("reduce_logsumexp", [array([-INF, -INF])], tf.reduce_logsumexp, gradients=False),
    *reduction("reduce_variance", tf.math.reduce_variance),
    *reduction("reduce_std", tf.math.reduce_std),
    case("reduce_std", [array([2.0, 2.0])], tf.math.reduce_std),
    case("reduce_all", [booleans([4, 2])], lambda x: tf.reduce_all(x, 1), axis=[1]),
    case("reduce_all", [array([], "bool")], tf.reduce_all),
    case("reduce_any", [booleans([4, 2])], lambda x: tf.reduce_any(x, 1), axis=[1]),
    case("reduce_any", [array([], "bool")], tf.reduce_any),
    *reduction("reduce_euclidean_norm", tf.math.reduce_euclidean_norm)[:4],
    case("reduce_euclidean_norm", [array([0.0, 0.0])], tf.math.reduce_euclidean_norm),
    case("count_nonzero", [array([[0.0, 1.0, NAN], [-0.0, 2.0, 3.0]])], lambda x: tf.math.count_nonzero(x, 1), axis=[1]),
    case("count_nonzero", [booleans([3, 3])], tf.math.count_nonzero),
    case("l2_loss", [uniform([2, 3])], tf.nn.l2_loss),
    case("l2_loss", [array([])], tf.nn.l2_loss),
    case("l2_normalize", [uniform([2, 3])], lambda x: tf.math.l2_normalize(x, 1), axis=[1]),
    case("l2_normalize", [uniform([2, 3])], tf.math.l2_normalize),
    case("l2_normalize", [array([0.0, 0.0])], tf.math.l2_normalize),
    case("l2_normalize", [uniform([4])], lambda x: tf.math.l2_normalize(x, epsilon=50.0), epsilon=50.0),
]
