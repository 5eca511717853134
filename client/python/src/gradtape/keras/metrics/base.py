"""Metrics: numbers that gather over batches. Their state is on the server, so nothing waits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gradtape as tf
from gradtape.keras import _registry, _wrapping, initializers
from gradtape.keras._configured import Configured
from gradtape.keras.losses.functions import same_rank
from gradtape.variable import Variable


class Metric(Configured):
    """The base of all metrics: `update_state` for each batch, then `result`.

    Args:
        dtype: Element type of the state.
        name: Name for people, and in a model's history.
    """

    def __init__(self, dtype: Any = None, name: str | None = None) -> None:
        self.name = name or _registry.unused_name(_registry.snake_case(type(self).__name__))
        self.dtype = tf.as_dtype(dtype or tf.float32)
        self._variables: list[Variable] = []

    def add_variable(
        self, shape: Any, initializer: Any = "zeros", dtype: Any = None, name: str | None = None
    ) -> Variable:
        """Makes a variable of the state."""
        shape = (shape,) if isinstance(shape, int) else tuple(shape)
        value = initializers.get(initializer)(shape, dtype=tf.as_dtype(dtype or self.dtype))
        variable = Variable(value, trainable=False, name=f"{self.name}/{name or 'variable'}")
        self._variables.append(variable)
        return variable

    def add_weight(
        self, shape: Any = (), initializer: Any = None, dtype: Any = None, name: str | None = None
    ) -> Variable:
        """Makes a variable of the state."""
        return self.add_variable(shape, initializer or "zeros", dtype, name)

    @property
    def variables(self) -> list[Variable]:
        """The state."""
        return list(self._variables)

    def update_state(self, *args: Any, **kwargs: Any) -> None:
        """Takes in a batch."""
        raise NotImplementedError(f"{type(self).__name__} does not say how to take in a batch")

    def result(self) -> Any:
        """Returns the number for all batches so far."""
        raise NotImplementedError(f"{type(self).__name__} does not say what its result is")

    def reset_state(self) -> None:
        """Forgets all batches."""
        for variable in self._variables:
            variable.assign(tf.zeros(variable.shape, variable.dtype))

    reset_states = reset_state

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Takes in a batch and returns the number for all so far."""
        self.update_state(*args, **kwargs)
        return self.result()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} name={self.name}>"


def weighted(values: Any, sample_weight: Any, dtype: Any) -> tuple[Any, Any]:
    """Returns values times weights, and the weights in the values' shape, if there are any."""
    values = tf.convert_to_tensor(values, dtype_hint=dtype)
    values = tf.cast(values, dtype)
    mask = getattr(values, "_keras_mask", None)
    if mask is not None and sample_weight is None:
        sample_weight = mask
    if sample_weight is None:
        return values, None
    weight = tf.cast(tf.convert_to_tensor(sample_weight), dtype)
    if weight.ndim == values.ndim + 1 and weight.shape[-1] == 1:
        weight = tf.squeeze(weight, -1)
    if values.ndim > weight.ndim:
        # One weight for each example: its values count as their mean.
        values = tf.reduce_mean(values, axis=tuple(range(weight.ndim, values.ndim)))
    return values * weight, tf.broadcast_to(weight, values.shape)


class Sum(Metric):
    """Sum of all values."""

    def __init__(self, name: str = "sum", dtype: Any = None) -> None:
        super().__init__(dtype, name)
        self.total = self.add_variable((), name="total")

    def update_state(self, values: Any, sample_weight: Any = None) -> None:
        """Adds values."""
        values, _ = weighted(values, sample_weight, self.dtype)
        self.total.assign_add(tf.reduce_sum(values))

    def result(self) -> Any:
        """Returns the sum."""
        return self.total.read_value()


class Mean(Metric):
    """Mean of all values."""

    def __init__(self, name: str | None = "mean", dtype: Any = None) -> None:
        super().__init__(dtype, name)
        self.total = self.add_variable((), name="total")
        self.count = self.add_variable((), name="count")

    def update_state(self, values: Any, sample_weight: Any = None) -> None:
        """Takes in values."""
        values, weight = weighted(values, sample_weight, self.dtype)
        if weight is None:
            count: Any = 1
            for extent in values.shape:
                count *= extent
            count = float(count)
        else:
            count = tf.reduce_sum(weight)
        self.total.assign_add(values if values.ndim == 0 else tf.reduce_sum(values))
        self.count.assign_add(count)

    def result(self) -> Any:
        """Returns the mean; 0 of no values."""
        return tf.math.divide_no_nan(self.total, self.count)


class MeanMetricWrapper(Mean):
    """Mean of what a function of targets and predictions returns.

    Args:
        fn: The function.
        name: Name for people.
        dtype: Element type of the state.
        **kwargs: Options of the function.
    """

    def __init__(
        self, fn: Callable[..., Any], name: str | None = None, dtype: Any = None, **kwargs: Any
    ) -> None:
        super().__init__(name or getattr(fn, "__name__", None), dtype)
        self._function, self._options = fn, kwargs

    def update_state(  # type: ignore[override]
        self, y_true: Any, y_pred: Any, sample_weight: Any = None
    ) -> None:
        """Takes in targets and predictions."""
        mask = getattr(y_pred, "_keras_mask", None)
        values = self._function(y_true, y_pred, **self._options)
        if mask is not None and sample_weight is None:
            sample_weight = mask
        elif mask is not None:
            first, second = same_rank(
                tf.cast(mask, self.dtype), tf.cast(tf.convert_to_tensor(sample_weight), self.dtype)
            )
            sample_weight = first * second
        super().update_state(values, sample_weight)


class FunctionMetric(MeanMetricWrapper):
    """A metric of a class' own function; takes `name`, `dtype` and the function's options."""

    function: Callable[..., Any]
    default_name: str | None = None

    def __init_subclass__(cls, function: Any = None, name: str | None = None) -> None:
        super().__init_subclass__()
        if function is not None:
            cls.default_name = name
            _wrapping.wrap(cls, function, [("name", None), ("dtype", None)], [])

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        options, others = _wrapping.arguments(self, args, kwargs)
        super().__init__(self.function, others["name"], others["dtype"], **options)
        vars(self).update(options)
