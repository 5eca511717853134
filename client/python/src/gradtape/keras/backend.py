"""The few functions of `keras.backend` that programs still call."""

from __future__ import annotations

from typing import Any

from gradtape.keras._registry import forget_names
from gradtape.keras.symbolic import SymbolicTensor


def backend() -> str:
    """Returns the name of what computes."""
    return "gradtape"


def floatx() -> str:
    """Returns the dtype of weights and inputs that have no other."""
    return "float32"


def epsilon() -> float:
    """Returns what keeps divisions and logarithms finite."""
    return 1e-7


def image_data_format() -> str:
    """Returns which axis of images holds the channels."""
    return "channels_last"


def clear_session() -> None:
    """Lets the names of layers be counted from the start."""
    forget_names()


def is_keras_tensor(x: Any) -> bool:
    """Says whether `x` is symbolic."""
    return isinstance(x, SymbolicTensor)
