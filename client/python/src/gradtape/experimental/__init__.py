"""What TensorFlow keeps under `tf.experimental`, and ready-made gradients of this package's own."""

from gradtape.custom_gradient import (
    clip_gradient,
    reverse_gradient,
    scale_gradient,
    straight_through,
)
from gradtape.experimental import dlpack
from gradtape.experimental.loop import Loop, LoopResult, Report, run_loop

__all__ = [
    "Loop",
    "LoopResult",
    "Report",
    "clip_gradient",
    "dlpack",
    "reverse_gradient",
    "run_loop",
    "scale_gradient",
    "straight_through",
]
