"""Checks raise what TensorFlow's raise, and say what was wrong."""

from __future__ import annotations

import numpy as np
import pytest

import gradtape as tf

X = [1.0, 2.0, 3.0]
PASS = {
    "assert_equal": (X, X),
    "assert_none_equal": (X, 0.0),
    "assert_less": (X, [2.0, 3.0, 4.0]),
    "assert_less_equal": (X, X),
    "assert_greater": (X, 0.0),
    "assert_greater_equal": (X, X),
    "assert_near": (X, [1.0, 2.0, 3.0000002]),
    "assert_positive": (X,),
    "assert_negative": ([-1.0],),
    "assert_non_negative": ([0.0],),
    "assert_non_positive": ([0.0],),
    "assert_all_finite": (X, "finite"),
    "Assert": (True, X),
    "assert_rank": (X, 1),
    "assert_rank_at_least": (X, 1),
    "assert_rank_in": (X, (0, 1)),
    "assert_scalar": (1.0,),
    "assert_type": (X, "float32"),
    "assert_integer": ([1],),
    "assert_shapes": ([(X, ("n",)), ([X], (1, "n")), ([[X]], ("...", "n"))],),
}
FAIL = {
    "assert_equal": ((X, 1.0), tf.errors.InvalidArgumentError, "2.0 == 1.0 at \\[1\\]"),
    "assert_none_equal": ((X, 2.0), tf.errors.InvalidArgumentError, "2.0 != 2.0 at \\[1\\]"),
    "assert_less": ((X, 3.0), tf.errors.InvalidArgumentError, "3.0 < 3.0"),
    "assert_less_equal": ((X, 2.0), tf.errors.InvalidArgumentError, "3.0 <= 2.0"),
    "assert_greater": ((X, 1.0), tf.errors.InvalidArgumentError, "1.0 > 1.0"),
    "assert_greater_equal": ((X, 2.0), tf.errors.InvalidArgumentError, "1.0 >= 2.0"),
    "assert_near": ((X, [1.0, 2.0, 3.1]), tf.errors.InvalidArgumentError, "differ by up to 0.09"),
    "assert_positive": (([0.0],), tf.errors.InvalidArgumentError, "x > 0"),
    "assert_negative": (([0.0],), tf.errors.InvalidArgumentError, "x < 0"),
    "assert_non_negative": (([-1.0],), tf.errors.InvalidArgumentError, "found -1.0"),
    "assert_non_positive": (([1.0],), tf.errors.InvalidArgumentError, "found 1.0"),
    "assert_all_finite": (([np.nan], "finite"), tf.errors.InvalidArgumentError, "NaN"),
    "Assert": ((False, [X]), tf.errors.InvalidArgumentError, "1.0, 2.0, 3.0"),
    "assert_rank": ((X, 2), ValueError, "must be 2, it is 1"),
    "assert_rank_at_least": ((X, 2), ValueError, "at least 2"),
    "assert_rank_in": ((X, (0, 2)), ValueError, "it is 1"),
    "assert_scalar": ((X,), ValueError, "must be 0"),
    "assert_type": ((X, "int32"), TypeError, "int32"),
    "assert_integer": ((X,), TypeError, "float32"),
    "assert_shapes": (([(X, ("n",)), ([1.0], ("n",))],), ValueError, "\\(1,\\)"),
}


@pytest.mark.parametrize("name", PASS)
def test_what_holds_passes(name: str) -> None:
    getattr(tf.debugging, name)(*PASS[name])


@pytest.mark.parametrize("name", FAIL)
def test_what_does_not_hold_raises(name: str) -> None:
    arguments, error, text = FAIL[name]
    with pytest.raises(error, match=text):
        getattr(tf.debugging, name)(*arguments)


def test_every_check_has_both_cases() -> None:
    checks = {name for name in vars(tf.debugging) if name.lower().startswith("assert")}
    assert checks == set(PASS) == set(FAIL)
