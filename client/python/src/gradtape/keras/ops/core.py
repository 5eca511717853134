"""Control flow, dtypes and what else Keras has beside NumPy's names."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

import gradtape as tf
from gradtape.keras.ops._lift import lift, value


def cast(x: Any, dtype: Any) -> Any:
    """Numbers of another dtype."""
    return tf.cast(value(x), dtype)


def saturate_cast(x: Any, dtype: Any) -> Any:
    """Numbers of another dtype; those that it cannot hold become its bounds."""
    return tf.saturate_cast(value(x), dtype)


def view(x: Any, dtype: Any = None) -> Any:
    """The same numbers; their bits are not read as another dtype."""
    x = value(x)
    if dtype is not None and tf.as_dtype(dtype) is not x.dtype:
        raise ValueError("`view` does not read the bits of numbers as another dtype.")
    return x


def copy(x: Any) -> Any:
    """The same numbers."""
    return tf.identity(value(x))


def stop_gradient(variable: Any) -> Any:
    """The same numbers, which nothing is differentiated through."""
    return tf.stop_gradient(value(variable))


def shape(x: Any) -> tuple[int, ...]:
    """The shape, as a tuple."""
    return tuple(value(x).shape)


def size(x: Any) -> int:
    """How many numbers there are."""
    return int(np.prod(value(x).shape))


def ndim(x: Any) -> int:
    """How many axes there are."""
    return int(value(x).ndim)


def dtype(x: Any) -> str:
    """Name of the dtype."""
    return str(value(x).dtype.name)


def is_tensor(x: Any) -> bool:
    """Whether it is a tensor."""
    return tf.is_tensor(x)


def convert_to_numpy(x: Any) -> Any:
    """The numbers as a NumPy array. Waits for the server."""
    return np.asarray(x)


def cond(pred: Any, true_fn: Callable[[], Any], false_fn: Callable[[], Any]) -> Any:
    """What one of two functions returns. Waits for the server to say which."""
    return tf.cond(pred, true_fn, false_fn)


def switch(index: Any, branches: Sequence[Callable[..., Any]], *operands: Any) -> Any:
    """What one of several functions returns. Waits for the server to say which."""
    number = min(max(int(index), 0), len(branches) - 1)
    return branches[number](*operands)


def while_loop(
    cond: Callable[..., Any],
    body: Callable[..., Any],
    loop_vars: Any,
    maximum_iterations: int | None = None,
) -> Any:
    """Calls a function as long as a condition holds."""
    single = not isinstance(loop_vars, (list, tuple))
    given = (loop_vars,) if single else tuple(loop_vars)

    def step(*now: Any) -> tuple[Any, ...]:
        after = body(*now)
        return tuple(after) if isinstance(after, (list, tuple)) else (after,)

    found = tf.while_loop(cond, step, given, maximum_iterations=maximum_iterations)
    return found[0] if single else tuple(found)


def fori_loop(lower: int, upper: int, body_fun: Callable[..., Any], init_val: Any) -> Any:
    """Calls a function with each number from `lower` up to `upper`."""
    state = init_val
    for i in range(int(lower), int(upper)):
        state = body_fun(i, state)
    return state


def map(f: Callable[..., Any], xs: Any) -> Any:
    """What a function returns for each part of the first axis."""
    count = tf.nest.flatten(xs)[0].shape[0]
    results = [f(tf.nest.map_structure(lambda x: x[i], xs)) for i in range(count)]  # noqa: B023
    return tf.nest.map_structure(lambda *parts: tf.stack(parts), *results)


def vectorized_map(function: Callable[..., Any], elements: Any) -> Any:
    """What a function returns for each part of the first axis."""
    return map(function, elements)


def scan(
    f: Callable[..., Any],
    init: Any,
    xs: Any = None,
    length: int | None = None,
    reverse: bool = False,
    unroll: Any = 1,
) -> Any:
    """Calls a function with a state and each part of the first axis.

    Args:
        f: Takes the state and a part; returns the next state and what is stacked.
        init: The first state.
        xs: What has the parts; None for none.
        length: How many calls there are without parts.
        reverse: Whether the last part comes first.
        unroll: Ignored.

    Returns:
        The last state, and all that was stacked.
    """
    count = tf.nest.flatten(xs)[0].shape[0] if xs is not None else int(length or 0)
    state, outputs = init, [None] * count
    order = range(count)
    for i in reversed(order) if reverse else order:
        part = None if xs is None else tf.nest.map_structure(lambda x: x[i], xs)  # noqa: B023
        state, outputs[i] = f(state, part)
    if not count or outputs[0] is None:
        return state, None
    return state, tf.nest.map_structure(lambda *parts: tf.stack(parts), *outputs)


def vectorize(pyfunc: Callable[..., Any], excluded: Any = None, signature: Any = None) -> Any:
    """Returns a function of tensors that calls one of numbers for each element."""
    if excluded or signature:
        raise ValueError("`vectorize` has neither `excluded` nor `signature` here.")

    def vectorized(*args: Any) -> Any:
        tensors = [value(arg) for arg in args]
        form = np.broadcast_shapes(*(tuple(x.shape) for x in tensors))
        flat = [tf.reshape(tf.broadcast_to(x, form), (-1,)) for x in tensors]
        results = [pyfunc(*(x[i] for x in flat)) for i in range(int(np.prod(form)))]
        return tf.reshape(tf.stack(results), form)

    return vectorized


custom_gradient = tf.custom_gradient

__all__ = [
    name
    for name in lift(globals(), __name__)
    # Functions of functions are called as they are.
    if name not in ("Callable", "Sequence")
] + ["custom_gradient"]
