"""TensorFlow's `GradientTape` as a client of a gradient tape service.

A program that computes with TensorFlow runs after its import is changed:

    import gradtape as tf

    x = tf.Variable(3.0)
    with tf.GradientTape() as tape:
        y = x ** 2
    print(tape.gradient(y, x).numpy())  # 6.0

Values live on a server: the one at GRADTAPE_ADDRESS or where `tf.connect` says, or else one that is
started for this process and ends with it.
"""

from __future__ import annotations

import builtins
from typing import TYPE_CHECKING

# The ops hide built-in functions of the same names (`abs`, `range`): nothing below may need those.
from gradtape import (
    autodiff,
    bitwise,
    checkpoints,
    data,
    debugging,
    dtypes,
    errors,
    experimental,
    image,
    linalg,
    math,
    nest,
    nn,
    random,
    train,
)
from gradtape._context import clear_errors, connect, disconnect, synchronize
from gradtape._counting import histogram_fixed_width, histogram_fixed_width_bins
from gradtape._execute import get_synchronous_execution, set_synchronous_execution
from gradtape._norms import clip_by_global_norm, clip_by_norm
from gradtape.array_ops import *
from gradtape.backprop import GradientTape, UnconnectedGradients
from gradtape.control_flow import *
from gradtape.custom_gradient import custom_gradient, grad_pass_through, recompute_grad
from gradtape.debugging import (
    Assert,
    assert_equal,
    assert_greater,
    assert_less,
    assert_rank,
)
from gradtape.dtypes import (
    DType,
    as_dtype,
    bfloat16,
    bool,
    double,
    float16,
    float32,
    float64,
    half,
    int32,
    int64,
)
from gradtape.function import function
from gradtape.indexed_slices import IndexedSlices
from gradtape.linalg import einsum, matmul, norm, tensordot
from gradtape.math import *
from gradtape.module import Module
from gradtape.nn import *
from gradtape.tensor import Tensor, constant, convert_to_tensor
from gradtape.tensor import Value as _Value
from gradtape.tensor_shape import TensorShape, TensorSpec
from gradtape.variable import Variable

from gradtape import keras  # isort: skip - it uses all of the above by the name `tf`

from gradtape.keras import initializers, losses, metrics, optimizers

if TYPE_CHECKING:
    # The names of the ops come from their table.
    def __getattr__(name): ...


newaxis = None
constant_initializer = initializers.Constant
ones_initializer = initializers.Ones
random_normal_initializer = initializers.RandomNormal
random_uniform_initializer = initializers.RandomUniform
zeros_initializer = initializers.Zeros
__version__ = "0.1.0"


def executing_eagerly() -> builtins.bool:
    """Says that operations run when they are called."""
    return True


def is_tensor(x: object) -> builtins.bool:
    """Says whether `x` is a tensor or a variable."""
    return isinstance(x, (_Value, IndexedSlices))
