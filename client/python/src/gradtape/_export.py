"""Gives ops of the table TensorFlow's calling conventions, and namespaces their names."""

from __future__ import annotations

import functools
import inspect
import operator
from collections.abc import Callable, Collection
from typing import Any

import numpy as np

from gradtape import _ops
from gradtape.tensor import Value

# Transposes and gradients of other ops, which only derivatives need. TensorFlow does not show
# them either.
_INTERNAL = frozenset(
    (
        "avg_pool_gradient",
        "cofactor",
        "convolution_filter_gradient",
        "convolution_input_gradient",
        "full",
        "gelu_gradient",
        "layer_normalization_gradient",
        "log_softmax_gradient",
        "max_pool_argmax",
        "max_pool_gather",
        "max_pool_scatter",
        "resize_nearest",
        "resize_scatter",
        "scaled_dot_product_attention_gradient",
        "scatter_along_axis",
        "scatter_sum",
        "softmax_cross_entropy_gradient",
        "softmax_gradient",
        "sparse_softmax_cross_entropy_gradient",
        "strided_slice_scatter",
    )
)


def export(namespace: dict[str, Any], family: str) -> list[str]:
    """Adds the ops of a family to a module, except those that it defines by itself.

    So an op that the table gains is there without a line of Python.

    Args:
        namespace: The module's `globals()`.
        family: Name of the family.

    Returns:
        All names that the module then offers for the family.
    """
    names = [name for name in _ops.FAMILIES[family] if name not in _INTERNAL]
    for name in names:
        if name not in namespace:
            namespace[name] = public(getattr(_ops, name))
    return names


def public(op: Callable[..., Any]) -> Callable[..., Any]:
    """Lets an op take attributes by position and TensorFlow's `name`, which is ignored.

    Reductions also take one axis, or None for all.
    """
    signature = inspect.signature(op)
    parameters = signature.parameters.values()
    attributes = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY]
    if attributes == ["axis", "keepdims"]:
        return _reduction(op)
    inputs = len(parameters) - len(attributes)
    more = [*attributes, "name"]

    @functools.wraps(op)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        if len(args) > inputs:
            given = dict(zip(more, args[inputs:], strict=False))
            if len(given) < len(args) - inputs or given.keys() & kwargs.keys():
                raise TypeError(f"{op.__name__}() got too many or repeated arguments")
            kwargs.update(given)
            args = args[:inputs]
        kwargs.pop("name", None)
        return op(*args, **kwargs)

    # What people and their editors see.
    last = inspect.Parameter("name", inspect.Parameter.KEYWORD_ONLY, default=None)
    wrapper.__signature__ = signature.replace(parameters=[*parameters, last])  # type: ignore[attr-defined]
    return wrapper


def _reduction(op: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(op)
    def wrapper(
        input_tensor: Any, axis: Any = None, keepdims: bool = False, name: str | None = None
    ) -> Any:
        if axis is None:
            return op(input_tensor, keepdims=keepdims)
        axes = integers(axis)
        if axes:
            return op(input_tensor, axis=axes, keepdims=keepdims)
        # No axis means all of them on the wire, but none in TensorFlow: each element by itself.
        return op(_ops.expand_dims(input_tensor, axis=-1), axis=(-1,))

    # `wraps` would show the op's own signature.
    del wrapper.__wrapped__  # type: ignore[attr-defined]
    return wrapper


def integers(value: Any) -> tuple[int, ...]:
    """Converts a shape, a list of axes or one number; tensors among them are fetched."""
    if isinstance(value, (Value, np.ndarray)):
        value = np.asarray(value)
        if value.dtype.kind not in "iu" and value.size:
            raise TypeError(f"expected integers, got {value.dtype}")
        return tuple(map(int, value.reshape(-1)))
    if isinstance(value, Collection):
        return tuple(map(operator.index, value))  # type: ignore[arg-type]
    return (operator.index(value),)
