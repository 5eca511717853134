"""Comparisons, logic, bits, and tests of elements."""

import tensorflow as tf
from make import array, booleans, case, integers, uniform

INF, NAN = float("inf"), float("nan")
LEFT, RIGHT = array([1.0, 2.0, 3.0, NAN, INF, 0.0]), array([1.0, 3.0, 2.0, NAN, INF, -0.0])
COMPARISONS = {
    "equal": tf.equal,
    "not_equal": tf.not_equal,
    "less": tf.less,
    "less_equal": tf.less_equal,
    "greater": tf.greater,
    "greater_equal": tf.greater_equal,
}
BITS = {
    "bitwise_and": tf.bitwise.bitwise_and,
    "bitwise_or": tf.bitwise.bitwise_or,
    "bitwise_xor": tf.bitwise.bitwise_xor,
}
ODD = array([0.0, -1.0, NAN, INF, -INF])

CASES = [
    *[case(name, [LEFT, RIGHT], oracle) for name, oracle in COMPARISONS.items()],
    *[case(name, [integers([2, 3], 0, 3), integers([3], 0, 3)], oracle) for name, oracle in COMPARISONS.items()],
    case("equal", [booleans([2, 3]), booleans([3])], tf.equal),
    case("logical_and", [booleans([4, 3]), booleans([3])], tf.logical_and),
    case("logical_or", [booleans([4, 3]), booleans([3])], tf.logical_or),
    case("logical_xor", [booleans([4, 3]), booleans([3])], tf.math.logical_xor),
    case("logical_not", [booleans([4, 3])], tf.logical_not),
    *[case(name, [integers([2, 3], -99, 99), integers([3], -99, 99)], oracle) for name, oracle in BITS.items()],
    *[case(name, [array([-7, 12], "int32"), array([10, -9], "int32")], oracle) for name, oracle in BITS.items()],
    case("invert", [array([0, 1, -7], "int32")], tf.bitwise.invert),
    case("left_shift", [array([1, -3, 5], "int32"), array([0, 4, 30], "int32")], tf.bitwise.left_shift),
    case("right_shift", [array([-64, 64, 7], "int64"), array([3, 2, 1], "int64")], tf.bitwise.right_shift),
    case("is_nan", [ODD], tf.math.is_nan),
    case("is_inf", [ODD], tf.math.is_inf),
    case("is_finite", [ODD], tf.math.is_finite),
    case("check_numerics", [uniform([2, 3])], lambda x: tf.debugging.check_numerics(x, "x"), message="x"),
]
