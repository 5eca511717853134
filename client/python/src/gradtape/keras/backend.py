"""Settings, and the functions of tensors that older programs call by `keras.backend`."""

from __future__ import annotations

from typing import Any

import gradtape as tf
from gradtape.keras import _registry


def backend() -> str:
    """Returns the name of what computes."""
    return "gradtape"


class _Settings:
    floatx = "float32"
    epsilon = 1e-7


def floatx() -> str:
    """Returns the dtype of weights and inputs that have no other."""
    return _Settings.floatx


def set_floatx(value: str) -> None:
    """Sets the dtype of weights and inputs that have no other."""
    if value not in ("bfloat16", "float16", "float32", "float64"):
        raise ValueError(f"Unknown `floatx` value: {value}")
    _Settings.floatx = value


def epsilon() -> float:
    """Returns what keeps divisions and logarithms finite."""
    return _Settings.epsilon


def set_epsilon(value: float) -> None:
    """Sets what keeps divisions and logarithms finite, for programs that ask for it."""
    _Settings.epsilon = float(value)


def set_image_data_format(data_format: str) -> None:
    """Accepts "channels_last": layers are told of another order themselves."""
    if data_format != "channels_last":
        raise ValueError("Give `data_format` to the layers: the default is channels_last here.")


def image_data_format() -> str:
    """Returns which axis of images holds the channels."""
    return "channels_last"


def clear_session(free_memory: bool = True) -> None:
    """Lets the names of layers be counted from the start."""
    _registry.forget_names()


def standardize_dtype(dtype: Any) -> str:
    """Returns the name of a dtype."""
    return floatx() if dtype is None else tf.as_dtype(dtype).name


def is_float_dtype(dtype: Any) -> bool:
    """Says whether numbers of a dtype have fractions."""
    return tf.as_dtype(dtype).is_floating


def is_int_dtype(dtype: Any) -> bool:
    """Says whether numbers of a dtype are integers."""
    return tf.as_dtype(dtype).is_integer


def is_keras_tensor(x: Any) -> bool:
    """Says whether `x` is symbolic."""
    from gradtape.keras.symbolic import SymbolicTensor

    return isinstance(x, SymbolicTensor)


def __getattr__(name: str) -> Any:
    # Layers need this module before the functions can be there.
    from gradtape.keras import backend_functions

    if name[0] == "_" or not hasattr(backend_functions, name):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(backend_functions, name)
