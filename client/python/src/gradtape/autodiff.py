"""Automatic differentiation (`tf.autodiff`)."""

from __future__ import annotations

from gradtape.backprop import GradientTape
from gradtape.forwardprop import ForwardAccumulator

__all__ = ["ForwardAccumulator", "GradientTape"]
