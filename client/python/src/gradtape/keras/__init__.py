"""Keras: layers, models, losses, metrics, optimizers and the training loop."""

from gradtape.keras import (
    activations,
    backend,
    callbacks,
    constraints,
    dtype_policies,
    initializers,
    layers,
    losses,
    metrics,
    mixed_precision,
    optimizers,
    random,
    regularizers,
    saving,
    utils,
)

from gradtape.keras import models, ops  # isort: skip - they are made of all of the above
from gradtape.keras.callbacks import Callback
from gradtape.keras.dtype_policies import DTypePolicy, FloatDTypePolicy
from gradtape.keras.initializers import Initializer
from gradtape.keras.layers import Input, InputLayer, Layer
from gradtape.keras.losses import Loss
from gradtape.keras.metrics import Metric
from gradtape.keras.models import Functional, Model, Sequential
from gradtape.keras.optimizers import Optimizer
from gradtape.keras.regularizers import Regularizer
from gradtape.keras.symbolic import SymbolicTensor as KerasTensor

__all__ = [
    "Callback",
    "DTypePolicy",
    "FloatDTypePolicy",
    "Functional",
    "Initializer",
    "Input",
    "InputLayer",
    "KerasTensor",
    "Layer",
    "Loss",
    "Metric",
    "Model",
    "Optimizer",
    "Regularizer",
    "Sequential",
    "activations",
    "backend",
    "callbacks",
    "constraints",
    "dtype_policies",
    "initializers",
    "layers",
    "losses",
    "metrics",
    "mixed_precision",
    "models",
    "ops",
    "optimizers",
    "random",
    "regularizers",
    "saving",
    "utils",
]
