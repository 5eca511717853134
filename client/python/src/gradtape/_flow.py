"""Control flow in the body of a `tf.function`: branches and loops that the server takes.

What Python would have to know in order to choose is not there yet, so each branch is shown to the
server as a function of its own, which uses values of the body around it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from gradtape import _context, _wire, nest
from gradtape._context import Scope
from gradtape.function import ConcreteFunction, trace
from gradtape.tensor import Tensor, Value, convert_to_tensor
from gradtape.tensor_shape import TensorShape

# So many slices are shown one by one, which lets the server join their ops; more are a scan.
_WORTH_A_SCAN = 64


def is_symbolic(value: Any) -> bool:
    """Says whether a value has no elements before the function around it is called."""
    return isinstance(value, Value) and value._is_symbolic


def worth_a_scan(length: int) -> bool:
    """Says whether so many slices should be gone over by the server."""
    return _context.scope().graph is not None and length > _WORTH_A_SCAN


def branch(index: Tensor, functions: Sequence[Callable[[], Any]]) -> Any:
    """Calls the function of an index, or the last; a truth value counts as 0 or 1."""
    scope = _context.scope()
    traced = [trace(scope, function, (), {}) for function in functions]
    first = traced[0]
    for other in traced[1:]:
        if other._outputs.specs != first._outputs.specs:
            raise TypeError(
                "the branches must return the same number of tensors with the same dtypes and "
                f"shapes, got {_described(first)} and {_described(other)}"
            )
    outs = [scope.session.new_handle() for _ in first._outputs.specs]
    body = _wire.handle_field(1, index._handle)
    body += _wire.handles_field(2, (function._handle for function in traced))
    body += _wire.handles_field(4, outs)
    return _made(scope, _wire.BRANCH, body, outs, traced, [index], first._outputs)


def while_loop(
    cond: Callable[[Any], Any], body: Callable[[Any], Any], loop_vars: Any, most: int | None
) -> Any:
    """Calls `body` on the loop variables, which are tensors, while `cond` of them holds."""
    scope = _context.scope()
    condition = trace(scope, lambda values: cond(values), (loop_vars,), {})
    step = trace(scope, lambda values: body(values), (loop_vars,), {})
    flat: list[Tensor] = nest.flatten(loop_vars)
    _check_kept(flat, step._outputs.specs)
    outs = [scope.session.new_handle() for _ in flat]
    entry = _wire.handle_field(1, condition._handle) + _wire.handle_field(2, step._handle)
    entry += _wire.handles_field(3, (value._handle for value in flat))
    entry += _wire.handles_field(4, outs)
    if most is not None:
        entry += b"\x28" + _wire.varint(most)
    return _made(scope, _wire.WHILE_LOOP, entry, outs, [condition, step], flat, step._outputs)


def scan(
    fn: Callable[[Any, Any], tuple[Any, Any]], initial: Any, elems: Any, length: int, reverse: bool
) -> tuple[Any, Any]:
    """Calls `fn` slice after slice, and returns what it carries at last and the stacked rest.

    Args:
        fn: From what is carried and a slice to what is carried on and a result.
        initial: What is carried to the first call, tensors.
        elems: Tensors of this first extent.
        length: The first extent.
        reverse: Whether the last slice comes first.
    """
    scope = _context.scope()
    stacks: list[Tensor] = nest.flatten(elems)
    slices = nest.pack_sequence_as(elems, [stack[0] for stack in stacks])
    step = trace(scope, fn, (initial, slices), {})
    carried: list[Tensor] = nest.flatten(initial)
    specs = list(step._outputs.specs)
    _check_kept(carried, specs[: len(carried)])
    outs = [scope.session.new_handle() for _ in specs]
    entry = _wire.handle_field(1, step._handle)
    entry += _wire.handles_field(2, (value._handle for value in carried))
    entry += _wire.handles_field(3, (value._handle for value in stacks))
    entry += _wire.number_field(4, length) + _wire.number_field(5, int(reverse))
    entry += _wire.handles_field(6, outs)
    whole = [(dtype, TensorShape((length, *shape))) for dtype, shape in specs[len(carried) :]]
    step._outputs.describe([*specs[: len(carried)], *whole])
    used = [*carried, *stacks]
    final, results = _made(scope, _wire.SCAN, entry, outs, [step], used, step._outputs)
    return final, results


def _check_kept(given: Sequence[Tensor], specs: Sequence[Any]) -> None:
    kept = [(value.dtype, tuple(value.shape)) for value in given]
    changed = [(dtype, tuple(shape)) for dtype, shape in specs]
    if kept != changed:
        raise ValueError(
            f"loop variables keep their dtypes and shapes: they are {kept}, and the body makes "
            f"{changed} of them"
        )


def _described(function: ConcreteFunction) -> str:
    return str([(dtype.name, tuple(shape)) for dtype, shape in function._outputs.specs])


def _made(
    scope: Scope,
    kind: int,
    body: bytes,
    outs: Sequence[bytes],
    functions: Sequence[ConcreteFunction],
    used: Sequence[Value],
    outputs: Any,
) -> Any:
    """Sends the command, tells tapes, and arranges the results."""
    session = scope.session
    session.append(_wire.entry(kind, body, scope.tail()))
    made = outputs.made(session, outs)
    captured = [
        value for function in functions for value in function._captures if isinstance(value, Value)
    ]
    serials = tuple(function._serial for function in functions)
    for tape in scope.tapes:
        signature = tape._signature
        signature.step((kind, serials, *map(signature.number, [*used, *captured])))
        for tensor in made:
            signature.add(tensor)
    return outputs.arrange(made)


def tensors(structure: Any) -> Any:
    """Converts all leaves."""
    return nest.map_structure(convert_to_tensor, structure)
