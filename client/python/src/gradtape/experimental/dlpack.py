"""Exchange of tensors with other libraries by DLPack (`tf.experimental.dlpack`).

The elements are copied once: they are on the server, and other libraries want them here.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from gradtape.tensor import Tensor, constant


class _Holder:
    """Gives a capsule to NumPy, which takes objects that make one."""

    def __init__(self, capsule: Any) -> None:
        self._capsule = capsule

    def __dlpack__(self, **_: Any) -> Any:
        return self._capsule

    def __dlpack_device__(self) -> tuple[int, int]:
        return (1, 0)  # The processor.


def to_dlpack(tf_tensor: Any) -> Any:
    """Returns a capsule with a tensor's elements, which can be taken once."""
    return tf_tensor.__dlpack__()


def from_dlpack(dlcapsule: Any) -> Tensor:
    """Makes a tensor of a capsule, or of another library's array or tensor."""
    source = dlcapsule if hasattr(dlcapsule, "__dlpack__") else _Holder(dlcapsule)
    return constant(np.from_dlpack(source))


__all__ = ["from_dlpack", "to_dlpack"]
