"""Variables as Keras makes them (`keras.Variable`)."""

from __future__ import annotations

from typing import Any

import gradtape as tf
from gradtape.keras import backend, initializers
from gradtape.keras._registry import unused_name
from gradtape.variable import Variable as _Variable


class Variable(_Variable):
    """A variable of a first value, or of an initializer and a shape.

    Args:
        initializer: The first value, or who makes it.
        shape: Shape, for an initializer.
        dtype: Element type; `floatx` for an initializer by default.
        trainable: Whether it is trained.
        autocast: Ignored: layers cast the weights that `add_weight` made.
        aggregation: Ignored: there is one replica.
        synchronization: Ignored.
        name: Name for people.
    """

    __slots__ = ()

    def __init__(
        self,
        initializer: Any,
        shape: Any = None,
        dtype: Any = None,
        trainable: bool = True,
        autocast: bool = True,
        aggregation: str = "none",
        synchronization: str = "auto",
        name: str | None = None,
    ) -> None:
        if callable(initializer) or isinstance(initializer, (str, dict)):
            make = initializers.get(initializer)
            dtype = tf.as_dtype(dtype or backend.floatx())

            def initializer() -> Any:
                if shape is None:
                    raise ValueError("A Variable of an initializer needs the shape.")
                return make(tuple(shape), dtype=dtype)

        super().__init__(
            initializer, trainable, name=name or unused_name("variable"), dtype=dtype, shape=shape
        )
        self.name = self.path
