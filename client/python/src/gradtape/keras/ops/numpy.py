"""The functions of `keras.ops` that NumPy has too (`keras.ops.numpy`)."""

from gradtape.keras.ops.arrays import *
from gradtape.keras.ops.creation import *
from gradtape.keras.ops.elementwise import *
from gradtape.keras.ops.products import *
from gradtape.keras.ops.reductions import *
