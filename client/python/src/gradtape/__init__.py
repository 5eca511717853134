"""TensorFlow's GradientTape as a client of a gradient tape service.

import gradtape as tf
"""

from gradtape import errors, nest
from gradtape._context import connect, disconnect, synchronize
from gradtape._ops import abs
from gradtape.backprop import GradientTape, UnconnectedGradients
from gradtape.dtypes import DType, as_dtype, bool, double, float32, float64, int32, int64
from gradtape.indexed_slices import IndexedSlices
from gradtape.tensor import Tensor, TensorShape, cast, constant, convert_to_tensor
from gradtape.variable import Variable

newaxis = None
__version__ = "0.1.0"
