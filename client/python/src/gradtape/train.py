"""What accompanies training (`tf.train`)."""

from __future__ import annotations

from gradtape.moving_averages import ExponentialMovingAverage

__all__ = ["ExponentialMovingAverage"]
