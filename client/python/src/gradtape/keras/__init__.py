"""Keras: layers, models, losses, metrics, optimizers and the training loop."""

from gradtape.keras import (
    activations,
    backend,
    callbacks,
    config,
    constraints,
    dtype_policies,
    initializers,
    layers,
    losses,
    metrics,
    mixed_precision,
    optimizers,
    preprocessing,
    random,
    regularizers,
    saving,
    tree,
    utils,
)

from gradtape.keras import models, ops  # isort: skip - they are made of all of the above
from gradtape.control_flow import name_scope
from gradtape.keras.callbacks import Callback
from gradtape.keras.dtype_policies import DTypePolicy, FloatDTypePolicy
from gradtape.keras.initializers import Initializer
from gradtape.keras.layers import Input, InputLayer, InputSpec, Layer
from gradtape.keras.losses import Loss
from gradtape.keras.metrics import Metric
from gradtape.keras.models import Functional, Model, Sequential
from gradtape.keras.optimizers import Optimizer
from gradtape.keras.regularizers import Regularizer
from gradtape.keras.symbolic import SymbolicTensor as KerasTensor
from gradtape.keras.variables import Variable

__version__ = "3.15.1"

__all__ = [
    "Callback",
    "DTypePolicy",
    "FloatDTypePolicy",
    "Functional",
    "Initializer",
    "Input",
    "InputLayer",
    "InputSpec",
    "KerasTensor",
    "Layer",
    "Loss",
    "Metric",
    "Model",
    "Optimizer",
    "Regularizer",
    "Sequential",
    "Variable",
    "activations",
    "backend",
    "callbacks",
    "config",
    "constraints",
    "dtype_policies",
    "initializers",
    "layers",
    "losses",
    "metrics",
    "mixed_precision",
    "models",
    "name_scope",
    "ops",
    "optimizers",
    "preprocessing",
    "random",
    "regularizers",
    "saving",
    "tree",
    "utils",
    "version",
]


def version() -> str:
    """Returns the version of Keras whose names and numbers these are."""
    return __version__
