"""Checks that raise where a value is not what it should be (`tf.debugging`).

Checks of elements fetch them, so they wait for the server.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from gradtape import dtypes, errors
from gradtape.tensor import Value, convert_to_tensor, to_numpy


def _array(x: Any) -> Any:
    return x.numpy() if isinstance(x, Value) else to_numpy(x, None)[0]


def _fail(message: str | None, found: str) -> None:
    raise errors.InvalidArgumentError(f"{message}\n{found}" if message else found)


def _pairwise(compare: Callable[[Any, Any], Any], sign: str) -> Callable[..., None]:
    def check(
        x: Any,
        y: Any,
        message: str | None = None,
        summarize: int | None = None,
        name: str | None = None,
    ) -> None:
        left, right = _array(x), _array(y)
        wrong = ~np.asarray(compare(left, right))
        if wrong.any():
            shape = np.broadcast_shapes(left.shape, right.shape)
            lefts, rights = np.broadcast_to(left, shape), np.broadcast_to(right, shape)
            pairs = [
                f"{lefts[tuple(at)]} {sign} {rights[tuple(at)]} at {at.tolist()}"
                for at in np.argwhere(wrong)[: 3 if summarize is None else summarize]
            ]
            _fail(message, f"Condition x {sign} y did not hold: not {', not '.join(pairs)}")

    check.__doc__ = f"Raises InvalidArgumentError unless x {sign} y element by element."
    return check


def _elementwise(holds: Callable[[Any], Any], what: str) -> Callable[..., None]:
    def check(
        x: Any, message: str | None = None, summarize: int | None = None, name: str | None = None
    ) -> None:
        elements = _array(x)
        wrong = elements[~np.asarray(holds(elements))]
        if wrong.size:
            _fail(message, f"Condition x {what} did not hold: found {wrong.reshape(-1)[0]}")

    check.__doc__ = f"Raises InvalidArgumentError unless x {what} element by element."
    return check


assert_equal = _pairwise(np.equal, "==")
assert_none_equal = _pairwise(np.not_equal, "!=")
assert_less = _pairwise(np.less, "<")
assert_less_equal = _pairwise(np.less_equal, "<=")
assert_greater = _pairwise(np.greater, ">")
assert_greater_equal = _pairwise(np.greater_equal, ">=")
assert_positive = _elementwise(lambda x: x > 0, "> 0")
assert_negative = _elementwise(lambda x: x < 0, "< 0")
assert_non_negative = _elementwise(lambda x: x >= 0, ">= 0")
assert_non_positive = _elementwise(lambda x: x <= 0, "<= 0")


def assert_near(
    x: Any,
    y: Any,
    rtol: Any = None,
    atol: Any = None,
    message: str | None = None,
    summarize: int | None = None,
    name: str | None = None,
) -> None:
    """Raises unless |x - y| <= atol + rtol |y|; both tolerances are ten epsilons of the dtype."""
    left, right = _array(x), _array(y)
    epsilon = 10 * np.finfo(np.result_type(left, np.float32)).eps
    rtol, atol = (epsilon if tolerance is None else tolerance for tolerance in (rtol, atol))
    if not np.allclose(left, right, float(rtol), float(atol)):
        _fail(message, f"x and y differ by up to {np.max(np.abs(left - right))}")


def assert_all_finite(x: Any, message: str, name: str | None = None) -> Any:
    """Returns `x`, or raises if an element is NaN or infinite."""
    elements = _array(x)
    if not np.isfinite(elements).all():
        kind = "NaN" if np.isnan(elements).any() else "Inf"
        _fail(message, f"Tensor had {kind} values")
    return x


def check_numerics(tensor: Any, message: str, name: str | None = None) -> Any:
    """Returns `tensor`, or raises if an element is NaN or infinite."""
    return assert_all_finite(tensor, message)


def Assert(  # noqa: N802 - TensorFlow's name
    condition: Any, data: Sequence[Any], summarize: int | None = None, name: str | None = None
) -> None:
    """Raises InvalidArgumentError with `data` unless all of `condition` is true."""
    if not np.all(_array(condition)):
        _fail(None, f"Expected a true condition. Data: {[_array(x).tolist() for x in data]}")


# === Shapes and dtypes ===


def _rank(x: Any) -> int:
    return len(convert_to_tensor(x).shape)


def assert_rank(x: Any, rank: Any, message: str | None = None, name: str | None = None) -> None:
    """Raises ValueError unless `x` has this rank."""
    if _rank(x) != int(rank):
        raise ValueError(f"{message or ''} The rank must be {int(rank)}, it is {_rank(x)}".strip())


def assert_rank_at_least(
    x: Any, rank: Any, message: str | None = None, name: str | None = None
) -> None:
    """Raises ValueError unless `x` has this rank or more."""
    if _rank(x) < int(rank):
        least = int(rank)
        raise ValueError(f"{message or ''} The rank must be at least {least}, it is {_rank(x)}")


def assert_rank_in(
    x: Any, ranks: Sequence[Any], message: str | None = None, name: str | None = None
) -> None:
    """Raises ValueError unless `x` has one of these ranks."""
    accepted = [int(rank) for rank in ranks]
    if _rank(x) not in accepted:
        raise ValueError(f"{message or ''} The rank must be in {accepted}, it is {_rank(x)}")


def assert_scalar(tensor: Any, message: str | None = None, name: str | None = None) -> Any:
    """Returns `tensor`, or raises ValueError unless it has rank 0."""
    assert_rank(tensor, 0, message)
    return tensor


def assert_type(
    tensor: Any, tf_type: Any, message: str | None = None, name: str | None = None
) -> None:
    """Raises TypeError unless `tensor` has this dtype."""
    found, wanted = convert_to_tensor(tensor).dtype, dtypes.as_dtype(tf_type)
    if found is not wanted:
        raise TypeError(f"{message or ''} The dtype must be {wanted.name}, it is {found.name}")


def assert_integer(x: Any, message: str | None = None, name: str | None = None) -> None:
    """Raises TypeError unless `x` has an integer dtype."""
    found = convert_to_tensor(x).dtype
    if not found.is_integer:
        raise TypeError(f"{message or ''} The dtype must be an integer one, it is {found.name}")


def is_numeric_tensor(tensor: Any) -> bool:
    """Says whether `tensor` is a tensor of numbers."""
    return isinstance(tensor, Value) and not tensor.dtype.is_bool


def assert_shapes(
    shapes: Mapping[Any, Any] | Sequence[tuple[Any, Any]],
    data: Any = None,
    summarize: int | None = None,
    message: str | None = None,
    name: str | None = None,
) -> None:
    """Raises ValueError unless tensors have the shapes beside them.

    Args:
        shapes: Pairs of a tensor and its shape: numbers, None for any extent, and texts for extents
            that must be equal wherever the same text stands; "..." first or last for any more axes.
        data: Ignored.
        summarize: Ignored.
        message: What to say first.
        name: Ignored.
    """
    pairs = shapes.items() if isinstance(shapes, Mapping) else shapes
    sizes: dict[str, int] = {}
    for tensor, wanted in pairs:
        found = tuple(convert_to_tensor(tensor).shape)
        if isinstance(wanted, (int, str)):
            wanted = (wanted,)
        pattern, extents = list(wanted), list(found)
        if pattern[:1] in (["..."], [...]):
            pattern, extents = pattern[1:], extents[max(0, len(extents) - len(pattern) + 1) :]
        elif pattern[-1:] in (["..."], [...]):
            pattern, extents = pattern[:-1], extents[: len(pattern) - 1]
        fits = len(pattern) == len(extents) and all(
            symbol is None
            or (sizes.setdefault(symbol, extent) if isinstance(symbol, str) else symbol) == extent
            for symbol, extent in zip(pattern, extents, strict=True)
        )
        if not fits:
            raise ValueError(f"{message or ''} The shape must be {wanted}, it is {found}".strip())
