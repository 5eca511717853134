"""Functions of tensors with the names of Keras 3 (`keras.ops`), of which custom layers are made.

Numbers of different dtypes meet at one that holds both, as in Keras and unlike in TensorFlow.
"""

from typing import TYPE_CHECKING

from gradtape.keras.ops import nn, numpy
from gradtape.keras.ops.arrays import *
from gradtape.keras.ops.core import *
from gradtape.keras.ops.creation import *
from gradtape.keras.ops.elementwise import *
from gradtape.keras.ops.nn import *
from gradtape.keras.ops.products import *
from gradtape.keras.ops.reductions import *

if TYPE_CHECKING:
    # The modules say by themselves which names they have.
    def __getattr__(name): ...
