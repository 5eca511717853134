"""Elementwise arithmetic and functions."""

import jax
import numpy as np
import scipy.special
import tensorflow as tf
from make import array, case, uniform

INF, NAN = float("inf"), float("nan")
# What no formula may stumble over.
EDGES = [0.0, -0.0, 1.0, -1.0, INF, -INF, NAN]


def elementwise(op, oracle, low=-2.0, high=2.0, edges=EDGES, **options):
    """Random numbers in both precisions, and edge values."""
    return [
        case(op, [uniform([2, 3], low, high)], oracle, **options),
        case(op, [uniform([2, 3], low, high, "float64")], oracle, **options),
        case(op, [array(edges)], oracle, **options),
        case(op, [array(np.zeros([0, 3]))], oracle, **options),
    ]


def pairs(op, oracle, low=-2.0, high=2.0, **options):
    """Random numbers with broadcasting, in both precisions."""
    return [
        case(op, [uniform([2, 3], low, high), uniform([3], low, high)], oracle, **options),
        case(op, [uniform([2, 1], low, high, "float64"), uniform([3], low, high, "float64")], oracle, **options),
    ]


def igamma_grad_a(a, x):
    """The derivative of igamma with respect to a, which has no derivative itself in JAX."""
    jax.config.update("jax_enable_x64", True)
    return jax.lax.igamma_grad_a(a, x)


CASES = [
    case("add", [uniform([2, 3]), uniform([3])], tf.add),
    case("floordiv", [array([7, -7, 7, -7], "int32"), array([2, 2, -2, -2], "int32")], tf.math.floordiv),
    case("maximum", [array([1.0, 2.0, 3.0]), array([1.0, 3.0, 2.0])], tf.maximum),
    # Arithmetic.
    *pairs("subtract", tf.subtract),
    case("subtract", [array([2**31 - 1, -5], "int32"), array([-1, 7], "int32")], tf.subtract),
    *pairs("multiply", tf.multiply),
    case("multiply", [array([2**62, 3], "int64"), array([4, -5], "int64")], tf.multiply),
    case("add_n", [uniform([2, 3]), uniform([2, 3]), uniform([2, 3])], lambda *x: tf.add_n(x)),
    case("add_n", [uniform([4])], lambda x: tf.add_n([x])),
    *pairs("multiply_no_nan", tf.math.multiply_no_nan),
    case("multiply_no_nan", [array([INF, NAN, 2.0, 0.0]), array([0.0, 0.0, 3.0, 5.0])], tf.math.multiply_no_nan),
    *pairs("divide", tf.divide, 0.5, 2.0),
    case("divide", [array([1.0, -1.0, 0.0]), array([0.0, 0.0, 0.0])], tf.divide, gradients=False),
    *pairs("divide_no_nan", tf.math.divide_no_nan, 0.5, 2.0),
    case("divide_no_nan", [array([1.0, 0.0, 3.0]), array([0.0, 0.0, 2.0])], tf.math.divide_no_nan),
    case("floordiv", [uniform([2, 3]), uniform([3], 0.5, 1.5)], tf.math.floordiv),
    case("floormod", [array([7, -7, 7, -7], "int64"), array([3, 3, -3, -3], "int64")], tf.math.floormod),
    case("floormod", [uniform([2, 3], -5.0, 5.0), uniform([3], 0.5, 1.5)], tf.math.floormod),
    case("truncatediv", [array([7, -7, 7, -7], "int32"), array([2, 2, -2, -2], "int32")], tf.truncatediv),
    case("truncatediv", [uniform([4], -9.0, 9.0), uniform([4], 0.5, 2.0)], lambda x, y: np.trunc(x / y), by="numpy"),
    case("truncatemod", [array([7, -7, 7, -7], "int32"), array([3, 3, -3, -3], "int32")], tf.truncatemod),
    case("truncatemod", [uniform([2, 3], -5.0, 5.0), uniform([3], 0.5, 1.5)], lambda x, y: jax.numpy.fmod(x, y), by="jax"),
    *pairs("pow", tf.pow, 0.5, 2.0),
    case("pow", [array([0.0, 0.0, -2.0, -2.0, 2.0]), array([0.0, 2.0, 2.0, 3.0, -1.0])], tf.pow),
    case("pow", [array([2, -3, 5], "int32"), array([10, 3, 0], "int32")], tf.pow),
    case("maximum", [array([NAN, 1.0, INF]), array([1.0, NAN, -INF])], tf.maximum, gradients=False),
    case("minimum", [array([1.0, 2.0, 3.0]), array([1.0, 3.0, 2.0])], tf.minimum),
    case("minimum", [array([1, 2], "int64"), array([2, 1], "int64")], tf.minimum),
    *pairs("squared_difference", tf.math.squared_difference),
    *elementwise("negative", tf.negative),
    *elementwise("abs", tf.abs),
    case("abs", [array([-3, 0, 4], "int32")], tf.abs),
    *elementwise("sign", tf.sign),
    case("sign", [array([-3, 0, 4], "int64")], tf.sign),
    *elementwise("square", tf.square),
    *elementwise("sqrt", tf.sqrt, 0.1, 4.0),
    *elementwise("rsqrt", tf.math.rsqrt, 0.1, 4.0, [1.0, 4.0, INF]),
    *elementwise("reciprocal", tf.math.reciprocal, 0.1, 4.0, [0.0, 1.0, -1.0]),
    # Functions.
    *elementwise("exp", tf.exp),
    *elementwise("expm1", tf.math.expm1, edges=[0.0, 1e-6, -40.0, 100.0]),
    *elementwise("log", tf.math.log, 0.1, 4.0),
    *elementwise("log1p", tf.math.log1p, -0.9, 4.0),
    *elementwise("sigmoid", tf.sigmoid, edges=[0.0, 100.0, -100.0, INF, -INF, NAN]),
    *elementwise("sin", tf.sin, edges=[0.0, 1.0, 1000.0]),
    *elementwise("cos", tf.cos, edges=[0.0, 1.0, 1000.0]),
    *elementwise("tan", tf.tan, -1.5, 1.5, [0.0, 1.0, 1000.0]),
    *elementwise("asin", tf.asin, -0.9, 0.9),
    *elementwise("acos", tf.acos, -0.9, 0.9),
    *elementwise("atan", tf.atan),
    *pairs("atan2", tf.atan2),
    case("atan2", [array([0.0, 0.0, -0.0, 1.0, -1.0]), array([0.0, -1.0, -1.0, 0.0, 0.0])], tf.atan2),
    *elementwise("sinh", tf.sinh, edges=[0.0, 5.0, -5.0]),
    *elementwise("cosh", tf.cosh, edges=[0.0, 5.0, -5.0]),
    *elementwise("tanh", tf.tanh),
    *elementwise("asinh", tf.asinh, edges=[0.0, 1e-4, 100.0, -100.0]),
    *elementwise("acosh", tf.acosh, 1.1, 4.0, [1.0, 0.5, 100.0]),
    *elementwise("atanh", tf.atanh, -0.9, 0.9, [0.0, 1.0, -1.0]),
    # Special functions.
    *elementwise("erf", tf.math.erf),
    *elementwise("erfc", tf.math.erfc, edges=[0.0, 5.0, -5.0]),
    case("erfc", [array([3.0, 6.0, 10.0, 20.0], "float64")], scipy.special.erfc, by="numpy", tolerance=1e-14),
    *elementwise("erfinv", tf.math.erfinv, -0.9, 0.9, [0.0, 0.99, -0.99]),
    case("erfinv", [array([0.0, 1e-300, 1e-9, 0.3, -0.9, 1 - 1e-15, 1.0, -1.0, 1.5], "float64")], scipy.special.erfinv, by="numpy"),
    *elementwise("ndtri", tf.math.ndtri, 0.05, 0.95, [0.5, 0.001, 0.999]),
    case("ndtri", [array([0.0, 1e-300, 1e-12, 0.075, 0.5, 0.925, 1 - 1e-15, 1.0, -0.1], "float64")], scipy.special.ndtri, by="numpy"),
    *elementwise("lgamma", tf.math.lgamma, 0.1, 4.0, [1.0, 2.0, 0.5, 30.0, -0.5, -1.5]),
    case("lgamma", [array([0.0, -1.0, INF])], tf.math.lgamma, gradients=False),
    *elementwise("digamma", tf.math.digamma, 0.1, 4.0, [1.0, 2.0, 0.5, 30.0, -0.5, -1.5]),
    case("digamma", [array([1e-6, 0.1, 1.4616321449683622, 9.9, 1e3, 1e10, -0.1, -20.3, -1e6 - 0.25], "float64")], scipy.special.digamma, by="numpy"),
    *[
        case("polygamma", [uniform([2, 3], 0.3, 5.0)], lambda x, n=n: tf.math.polygamma(tf.cast(n, x.dtype), x), n=n)
        for n in (1, 2, 5)
    ],
    case("polygamma", [array([0.1, 1.0, 9.5, 50.0, 1e4], "float64")], lambda x: scipy.special.polygamma(3, x), by="numpy", n=3),
    case("polygamma", [array([-0.5, -1.3, -7.75], "float64")], lambda x: np.pi**2 / np.sin(np.pi * x) ** 2 - scipy.special.polygamma(1, 1 - x), by="numpy", n=1),
    case("polygamma", [uniform([3], 0.3, 5.0)], tf.math.digamma, n=0),
    *pairs("igamma", tf.math.igamma, 0.3, 6.0),
    case("igamma", [array([0.5, 1.0, 2.0, 3.0]), array([0.0, 0.0, INF, 2.0])], tf.math.igamma, gradients=False),
    case("igamma", [array([1e-3, 0.5, 10.0, 100.0, 1e4, 1e5], "float64"), array([1e-5, 40.0, 3.0, 110.0, 1.01e4, 0.999e5], "float64")], scipy.special.gammainc, by="numpy"),
    case("igamma", [uniform([8], 0.3, 20.0, "float64"), uniform([8], 0.3, 20.0, "float64")], igamma_grad_a, by="numpy", tolerance=1e-9, order=1),
    *pairs("igammac", tf.math.igammac, 0.3, 6.0),
    case("igammac", [array([0.5, 10.0, 100.0, 1e4], "float64"), array([40.0, 50.0, 90.0, 1.02e4], "float64")], scipy.special.gammaincc, by="numpy", tolerance=1e-13),
    *pairs("xlogy", tf.math.xlogy, 0.5, 2.0),
    case("xlogy", [array([0.0, 0.0, 2.0]), array([0.0, -1.0, 3.0])], tf.math.xlogy),
    *pairs("xlog1py", tf.math.xlog1py, 0.5, 2.0),
    case("xlog1py", [array([0.0, 0.0, 2.0]), array([-1.0, -3.0, 3.0])], tf.math.xlog1py),
    *pairs("xdivy", tf.math.xdivy, 0.5, 2.0),
    case("xdivy", [array([0.0, 0.0, 2.0]), array([0.0, -1.0, 3.0])], tf.math.xdivy),
]
