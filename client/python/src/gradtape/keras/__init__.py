"""The parts of Keras that exist so far: layers, losses, optimizers and what they are made of."""

from gradtape.keras import activations, initializers, layers, losses, optimizers
from gradtape.keras.layers import Input
from gradtape.keras.models import Model, Sequential

__all__ = [
    "Input",
    "Model",
    "Sequential",
    "activations",
    "initializers",
    "layers",
    "losses",
    "optimizers",
]
