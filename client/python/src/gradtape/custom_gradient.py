"""Gradients of one's own, and functions that are computed again instead of kept.

A backward function runs once, when the forward one does, on placeholders: values on the server that
have a dtype and a shape and no elements. What it applies to them is the backward program, which the
server keeps on its tapes. So it can look at shapes, and cannot at numbers.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import inspect
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from gradtape import _context, _ops, _wire, nest
from gradtape._execute import command, same_session
from gradtape._signature import Listener
from gradtape.tensor import Tensor, Value, convert, convert_to_tensor
from gradtape.variable import Variable


class _Watcher(Listener):
    """Stands among the tapes of a scope, and sees which trainable variables are used."""

    # As tapes have it: it follows whatever is asked of those that were opened after it.
    _resumed = -1

    def __init__(self) -> None:
        self._signature = self
        self._serial = -1
        self.variables: dict[int, Variable] = {}

    def number(self, value: Any) -> int:
        """Hears that a value is used."""
        if isinstance(value, Variable) and value._trainable:
            self.variables[value._serial] = value
        return 0


@contextlib.contextmanager
def _variables_used() -> Iterator[dict[int, Variable]]:
    scope, watcher = _context.scope(), _Watcher()
    scope.tapes.append(watcher)  # type: ignore[arg-type]
    try:
        yield watcher.variables
    finally:
        scope.tapes.remove(watcher)  # type: ignore[arg-type]


def _tell(event: str, used: Sequence[Value | None], made: Sequence[Value]) -> None:
    """Lets the tapes' signatures follow."""
    for tape in _context.scope().tapes:
        signature = tape._signature
        numbers = [None if value is None else signature.number(value) for value in used]
        signature.step((event, len(made), *numbers))
        for value in made:
            signature.add(value)


def _like(values: Sequence[Value]) -> list[Tensor]:
    """New tensors of the same dtypes and shapes, which a command is to fill."""
    session = _context.scope().session
    same_session(session, values)
    return [Tensor(session, session.new_handle(), value._dtype, value._form) for value in values]


def _handles(field: int, values: Sequence[Value | None]) -> bytes:
    return _wire.handles_field(field, (b"\0" if v is None else v._handle for v in values))


def _placeholders(like: Sequence[Value]) -> list[Tensor]:
    made = _like(like)
    command(_wire.CREATE_PLACEHOLDERS, _handles(1, like) + _handles(2, made))
    _tell("placeholders", like, made)
    return made


def _tensors(structure: Any) -> list[Any]:
    return [convert_to_tensor(value) for value in nest.flatten(structure)]


def custom_gradient(f: Callable[..., Any] | None = None) -> Any:
    """Gives a function a gradient of its own (`tf.custom_gradient`).

    Args:
        f: A function of tensors that returns its results and a function from what flows into them
            to what flows into its arguments, None for nothing. If it uses variables that are not
            among its arguments, the second function takes an argument `variables` and returns two
            lists: that for the arguments, and that for the variables.

    The second function is called at once and with placeholders: it may look at shapes, not at
    elements. It must not ask a tape for gradients of them.
    """
    if f is None:
        return custom_gradient

    @functools.wraps(f)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return _call(f, *args, **kwargs)

    return wrapper


def _call(f: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    args = tuple(
        argument if isinstance(argument, Variable) else nest.map_structure(_argument, argument)
        for argument in args
    )
    inputs = [value for value in nest.flatten(args) if isinstance(value, Value)]
    with _variables_used() as used:
        result, backward = f(*args, **kwargs)
    among = {value._serial for value in inputs}
    variables = [variable for serial, variable in used.items() if serial not in among]
    results = _tensors(result)
    upstream = _placeholders(results)
    gradients = _backward(backward, upstream, len(inputs), variables)
    sources: list[Value] = [*inputs, *variables]
    flowing = [
        None if gradient is None else convert_to_tensor(convert(gradient, source._dtype))
        for gradient, source in zip(gradients, sources, strict=True)
    ]
    outputs = _like(results)
    body = _handles(1, sources) + _handles(2, results) + _handles(3, outputs)
    command(_wire.RECORD_CUSTOM_GRADIENT, body + _handles(4, upstream) + _handles(5, flowing))
    _tell("custom gradient", [*sources, *results, *upstream, *flowing], outputs)
    return nest.pack_sequence_as(result, outputs)


def _argument(value: Any) -> Any:
    return value if isinstance(value, (Value, type(None))) else convert_to_tensor(value)


def _backward(
    backward: Callable[..., Any],
    upstream: list[Tensor],
    inputs: int,
    variables: list[Variable],
) -> list[Any]:
    """Calls the backward function, and checks what it returns."""
    if not variables:
        found = nest.flatten(backward(*upstream))
        of_variables: list[Any] = []
    else:
        accepted = inspect.signature(backward).parameters.values()
        if not any(p.name == "variables" or p.kind is p.VAR_KEYWORD for p in accepted):
            raise TypeError(
                "@tf.custom_gradient grad_fn must accept keyword argument 'variables', since "
                f"function uses variables: {variables}"
            )
        of_inputs, of_variables = backward(*upstream, variables=variables)
        found, of_variables = nest.flatten(of_inputs), list(of_variables)
        if len(of_variables) != len(variables):
            raise ValueError(
                "Must return gradient for each variable from @custom_gradient grad_fn."
            )
    if len(found) != inputs:
        raise ValueError(
            f"custom_gradient function expected to return {inputs} gradients, but returned "
            f"{len(found)} instead."
        )
    return [*found, *of_variables]


def recompute_grad(f: Callable[..., Any]) -> Callable[..., Any]:
    """Lets tapes keep nothing of a function but what goes into it (`tf.recompute_grad`).

    What it computes on the way is computed again for the gradient, with the variables and the
    random numbers of the first time. It is called with placeholders in the place of the tensors
    among its arguments: it may look at their shapes, not at their elements.

    Args:
        f: A function of tensors; other arguments are passed on.
    """

    @functools.wraps(f)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        flat = nest.flatten((args, kwargs))
        arguments = [value for value in flat if isinstance(value, Tensor)]
        parameters = _placeholders(arguments)
        rest = iter(parameters)
        shown = [next(rest) if isinstance(value, Tensor) else value for value in flat]
        their_args, their_kwargs = nest.pack_sequence_as((args, kwargs), shown)
        result = f(*their_args, **their_kwargs)
        results = _tensors(result)
        outputs = _like(results)
        body = _handles(1, parameters) + _handles(2, results) + _handles(3, arguments)
        command(_wire.CALL_FUNCTION, body + _handles(4, outputs))
        _tell("function", [*parameters, *results, *arguments], outputs)
        return nest.pack_sequence_as(result, outputs)

    return wrapper


def grad_pass_through(f: Callable[..., Any]) -> Callable[..., Any]:
    """Lets gradients pass a function as if it were not there (`tf.grad_pass_through`).

    Args:
        f: A function whose results have the shapes of its arguments.
    """

    @custom_gradient
    def passing(*args: Any, **kwargs: Any) -> Any:
        def backward(*upstream: Any, variables: Sequence[Variable] = ()) -> Any:
            return (upstream, [None] * len(variables)) if variables else upstream

        return f(*args, **kwargs), backward

    return functools.wraps(f)(lambda *args, **kwargs: passing(*args, **kwargs))


# === Ready-made ===


@custom_gradient
def straight_through(x: Any, y: Any) -> Any:
    """Returns `y`, with the gradient of `x`: for rounding, sampling and other hard choices.

    Args:
        x: What gradients flow to.
        y: What is seen, of the same dtype and shape.
    """
    return _ops.identity(y), lambda dy: (dy, None)


def scale_gradient(x: Any, scale: float) -> Tensor:
    """Returns `x`, whose gradient is multiplied by `scale`."""

    @custom_gradient
    def scaled(x: Any) -> Any:
        return _ops.identity(x), lambda dy: dy * scale

    return scaled(x)  # type: ignore[no-any-return]


def reverse_gradient(x: Any, scale: float = 1.0) -> Tensor:
    """Returns `x`, whose gradient is turned around: for adversarial training."""
    return scale_gradient(x, -scale)


def clip_gradient(
    x: Any, low: float | None = None, high: float | None = None, norm: float | None = None
) -> Tensor:
    """Returns `x`, whose gradient is clipped, by value or by norm.

    Args:
        x: A tensor.
        low: Smallest element of the gradient.
        high: Largest element of the gradient; `-low` if it is not given, and the other way round.
        norm: Largest norm of the gradient, in place of the two.
    """
    if (norm is None) == (low is None and high is None):
        raise ValueError("clip_gradient takes either bounds or a norm")

    def backward(dy: Any) -> Any:
        if norm is not None:
            length = _ops.sqrt(_ops.reduce_sum(_ops.square(dy)))
            return dy * (norm / _ops.maximum(length, norm))
        least = -high if low is None else low  # type: ignore[operator]
        most = -low if high is None else high  # type: ignore[operator]
        return _ops.clip_by_value(dy, clip_value_min=least, clip_value_max=most)

    @custom_gradient
    def clipped(x: Any) -> Any:
        return _ops.identity(x), backward

    return clipped(x)  # type: ignore[no-any-return]


# === Explanations ===


@dataclasses.dataclass(frozen=True)
class Hop:
    """One operation on the way of a gradient.

    Attributes:
        op: Its name.
        shape: Shape of what it made.
        dtype: Dtype of what it made.
        place: The line of the program that called it.
    """

    op: str
    shape: tuple[int, ...]
    dtype: str
    place: str


@dataclasses.dataclass(frozen=True)
class Explanation:
    """Why there is a gradient, or why there is none; `str` says it.

    Attributes:
        reason: None if there is a gradient; else "not_watched", "dtype", "stop_gradient",
            "no_derivative" or "no_path".
        path: The operations from the source to the target, or to the one where the gradient ends.
        elided: How many in the middle are left out.
    """

    reason: str | None
    path: tuple[Hop, ...]
    elided: int

    @property
    def connected(self) -> bool:
        """Whether there is a gradient."""
        return self.reason is None

    def __str__(self) -> str:
        end = {
            None: "There is a gradient.",
            "not_watched": "There is no gradient: the tape never saw the source. Watch it before "
            "it is used, with tape.watch.",
            "dtype": "There is no gradient: source or target has no floating-point dtype.",
            "stop_gradient": "There is no gradient: it ends at stop_gradient.",
            "no_derivative": "There is no gradient: the last of these operations has none.",
            "no_path": "There is no gradient: the target was not computed from the source.",
        }[self.reason]
        lines = [
            f"  {hop.op} -> {hop.dtype}{list(hop.shape)}{f'  at {hop.place}' if hop.place else ''}"
            for hop in self.path
        ]
        if self.elided:
            lines.insert(len(lines) // 2, f"  ... {self.elided} more ...")
        return "\n".join([end, *(["The way from the source:"] if lines else []), *lines])
