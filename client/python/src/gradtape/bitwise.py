"""Bits of integers (`tf.bitwise`)."""

from __future__ import annotations

from gradtape import _export, _ops

bitwise_and = _export.public(_ops.bitwise_and)
bitwise_or = _export.public(_ops.bitwise_or)
bitwise_xor = _export.public(_ops.bitwise_xor)
invert = _export.public(_ops.invert)
left_shift = _export.public(_ops.left_shift)
right_shift = _export.public(_ops.right_shift)

__all__ = ["bitwise_and", "bitwise_or", "bitwise_xor", "invert", "left_shift", "right_shift"]
