"""Control flow that Python could write too (`tf.cond`, `tf.while_loop`, `tf.map_fn`, `tf.scan`).

As in TensorFlow without `tf.function`, these run the branches and iterations that are taken, one
after the other, and tapes record them like any other code. A predicate that is a tensor is fetched.

In a `tf.function`, where a predicate has no elements yet, the server chooses: every branch is shown
to it, and the one that holds is run. Such branches may use and assign what is outside, but step no
optimizer and draw no random numbers; a gradient of such a loop needs `maximum_iterations`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from gradtape import _flow, _ops, array_ops, nest
from gradtape.tensor import Tensor, Value, convert_to_tensor

__all__ = [
    "case",
    "cond",
    "control_dependencies",
    "foldl",
    "foldr",
    "group",
    "init_scope",
    "map_fn",
    "name_scope",
    "no_op",
    "scan",
    "switch_case",
    "vectorized_map",
    "while_loop",
]


def cond(
    pred: Any,
    true_fn: Callable[[], Any] | None = None,
    false_fn: Callable[[], Any] | None = None,
    name: str | None = None,
) -> Any:
    """Calls `true_fn` if `pred` holds and `false_fn` otherwise, and returns what it returns."""
    if true_fn is None or false_fn is None or not (callable(true_fn) and callable(false_fn)):
        raise TypeError("'true_fn' and 'false_fn' must be callable.")
    if _flow.is_symbolic(pred):
        return _flow.branch(pred, [false_fn, true_fn])
    return true_fn() if bool(pred) else false_fn()


def case(
    pred_fn_pairs: Sequence[tuple[Any, Callable[[], Any]]],
    default: Callable[[], Any] | None = None,
    exclusive: bool = False,
    strict: bool = False,
    name: str = "case",
) -> Any:
    """Calls the function of the first predicate that holds, or `default`.

    Args:
        pred_fn_pairs: Predicates and functions, in order.
        default: The function to call if none holds; without it that is an error.
        exclusive: Whether more than one predicate that holds is an error.
        strict: Ignored.
        name: Ignored.
    """
    if any(_flow.is_symbolic(pred) for pred, _ in pred_fn_pairs):
        if exclusive:
            raise ValueError("exclusive=True needs predicates that are known while tracing.")
        return _first_that_holds(list(pred_fn_pairs), default)
    chosen = [fn for pred, fn in pred_fn_pairs if bool(pred)]
    if exclusive and len(chosen) > 1:
        raise ValueError("More than one condition of tf.case evaluated as True but exclusive=True.")
    if chosen:
        return chosen[0]()
    if default is None:
        raise ValueError("None of the conditions of tf.case evaluated as True.")
    return default()


def _first_that_holds(pairs: list[tuple[Any, Callable[[], Any]]], default: Any) -> Any:
    """As branches in branches: without a default the last function stands for it, as in graphs."""
    (pred, fn), *rest = pairs
    if not rest:
        return cond(pred, fn, default) if default is not None else fn()
    return cond(pred, fn, lambda: _first_that_holds(rest, default))


def switch_case(
    branch_index: Any,
    branch_fns: Sequence[Any] | Mapping[int, Callable[[], Any]],
    default: Callable[[], Any] | None = None,
    name: str = "switch_case",
) -> Any:
    """Calls the function of an index, or `default`, or else that of the largest index."""
    if isinstance(branch_fns, Mapping) or (branch_fns and not callable(branch_fns[0])):
        branches = dict(branch_fns)
    else:
        branches = dict(enumerate(branch_fns))
    if not branches:
        raise ValueError("Must provide at least one item in branch_fns")
    if sorted(branches) != list(range(len(branches))):
        raise ValueError(
            f"branch indices must form a contiguous range of [0 to {len(branches)}) "
            f"but found {sorted(branches)}"
        )
    last = default or branches[max(branches)]
    if _flow.is_symbolic(branch_index):
        return _flow.branch(branch_index, [*(branches[i] for i in range(len(branches))), last])
    return branches.get(int(branch_index), last)()


def while_loop(
    cond: Callable[..., Any],
    body: Callable[..., Any],
    loop_vars: Any,
    shape_invariants: Any = None,
    parallel_iterations: int = 10,
    back_prop: bool = True,
    swap_memory: bool = False,
    maximum_iterations: Any = None,
    name: str | None = None,
) -> Any:
    """Calls `body` on the loop variables while `cond` of them holds.

    Args:
        cond: From loop variables to whether to go on.
        body: From loop variables to as many new ones.
        loop_vars: The first loop variables, a list, tuple or dictionary.
        shape_invariants: Ignored, as are the next three: tapes record the loop as it runs.
        parallel_iterations: Ignored.
        back_prop: False returns values without gradients.
        swap_memory: Ignored.
        maximum_iterations: Most iterations; none if it is None.
        name: Ignored.
    """
    left = None if maximum_iterations is None else int(maximum_iterations)
    several = nest.is_nested(loop_vars)

    def call(function: Callable[..., Any], values: Any) -> Any:
        if isinstance(values, Mapping):
            return function(**values)
        return function(*values) if several else function(values)

    def step(values: Any) -> Any:
        result = call(body, values)
        if several and not nest.is_nested(result):
            result = (result,)
        if several and len(result) != len(values):
            raise ValueError(
                f"The body returned {len(result)} loop variables, there are {len(values)}"
            )
        return result

    while left is None or left > 0:
        goes_on = call(cond, loop_vars)
        if _flow.is_symbolic(goes_on):
            # From here on the server knows, and not we.
            loop_vars = _flow.while_loop(
                lambda values: call(cond, values), step, _flow.tensors(loop_vars), left
            )
            break
        if not bool(goes_on):
            break
        loop_vars = step(loop_vars)
        left = None if left is None else left - 1
    tensors = nest.map_structure(convert_to_tensor, loop_vars)
    return tensors if back_prop else nest.map_structure(_ops.stop_gradient, tensors)


def map_fn(
    fn: Callable[[Any], Any],
    elems: Any,
    dtype: Any = None,
    parallel_iterations: int | None = None,
    back_prop: bool = True,
    swap_memory: bool = False,
    infer_shape: bool = True,
    name: str | None = None,
    fn_output_signature: Any = None,
) -> Any:
    """Applies `fn` to each slice of `elems` along the first axis, and stacks the results.

    Args:
        fn: From a slice, arranged as `elems` are, to tensors.
        elems: Tensors of equal first extents.
        dtype: Ignored, as is everything below: tensors know their dtypes and shapes.
        parallel_iterations: Ignored.
        back_prop: False returns values without gradients.
        swap_memory: Ignored.
        infer_shape: Ignored.
        name: Ignored.
        fn_output_signature: Ignored.
    """
    length = _length(elems)
    if _flow.worth_a_scan(length):
        _, mapped = _flow.scan(
            lambda carried, element: (carried, fn(element)), (), _flow.tensors(elems), length, False
        )
    else:
        mapped = _stack([fn(element) for element in _slices(elems)])
    return mapped if back_prop else nest.map_structure(_ops.stop_gradient, mapped)


def vectorized_map(
    fn: Callable[[Any], Any],
    elems: Any,
    fallback_to_while_loop: bool = True,
    warn: bool = True,
) -> Any:
    """Applies `fn` to each slice of `elems`, as `map_fn` does."""
    return map_fn(fn, elems)


def foldl(
    fn: Callable[[Any, Any], Any],
    elems: Any,
    initializer: Any = None,
    parallel_iterations: int = 10,
    back_prop: bool = True,
    swap_memory: bool = False,
    name: str | None = None,
) -> Any:
    """Combines the slices of `elems` from the first to the last: `fn(accumulated, slice)`."""
    if initializer is not None and _flow.worth_a_scan(_length(elems)):
        return _scanned(fn, elems, initializer, False)[0]
    return _fold(fn, _slices(elems), initializer)[-1]


def foldr(
    fn: Callable[[Any, Any], Any],
    elems: Any,
    initializer: Any = None,
    parallel_iterations: int = 10,
    back_prop: bool = True,
    swap_memory: bool = False,
    name: str | None = None,
) -> Any:
    """Combines the slices of `elems` from the last to the first: `fn(accumulated, slice)`."""
    if initializer is not None and _flow.worth_a_scan(_length(elems)):
        return _scanned(fn, elems, initializer, True)[0]
    return _fold(fn, _slices(elems)[::-1], initializer)[-1]


def scan(
    fn: Callable[[Any, Any], Any],
    elems: Any,
    initializer: Any = None,
    parallel_iterations: int = 10,
    back_prop: bool = True,
    swap_memory: bool = False,
    infer_shape: bool = True,
    reverse: bool = False,
    name: str | None = None,
) -> Any:
    """Combines the slices of `elems` one by one, and stacks what was accumulated after each.

    Args:
        fn: From what was accumulated and a slice to the next accumulation.
        elems: Tensors of equal first extents.
        initializer: What to begin with; by default the first slice, which is then the first result.
        parallel_iterations: Ignored, as are the next three.
        back_prop: Ignored.
        swap_memory: Ignored.
        infer_shape: Ignored.
        reverse: Whether to go from the last slice to the first; results keep the places of slices.
        name: Ignored.
    """
    if initializer is not None and _flow.worth_a_scan(_length(elems)):
        _, stacked = _scanned(fn, elems, initializer, reverse)
        return stacked
    slices = _slices(elems)
    steps = _fold(fn, slices[::-1] if reverse else slices, initializer)
    if initializer is not None:
        steps = steps[1:]
    return _stack(steps[::-1] if reverse else steps)


# === Names and order, which mean nothing where everything runs in order ===


class name_scope(contextlib.AbstractContextManager):  # noqa: N801 - TensorFlow's name
    """Accepts a name for a block of code; values here have no names."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __enter__(self) -> str:
        return self.name

    def __exit__(self, *exception: object) -> None:
        return None


@contextlib.contextmanager
def control_dependencies(control_inputs: Any) -> Iterator[None]:
    """Does nothing: operations run in the order of the program."""
    yield


@contextlib.contextmanager
def init_scope() -> Iterator[None]:
    """Does nothing: there is no graph to leave."""
    yield


def group(*inputs: Any, **kwargs: Any) -> None:
    """Does nothing: the inputs have run already."""


def no_op(name: str | None = None) -> None:
    """Does nothing."""


# === Slices ===


def _length(elems: Any) -> int:
    """The first extent."""
    first = nest.flatten(elems)
    return int(convert_to_tensor(first[0]).shape[0]) if first else 0


def _scanned(
    fn: Callable[[Any, Any], Any], elems: Any, initializer: Any, reverse: bool
) -> tuple[Any, Any]:
    """What was accumulated at last, and what was accumulated after each step."""

    def step(carried: Any, element: Any) -> tuple[Any, Any]:
        accumulated = fn(carried, element)
        return accumulated, accumulated

    initial, values = _flow.tensors(initializer), _flow.tensors(elems)
    return _flow.scan(step, initial, values, _length(elems), reverse)


def _slices(elems: Any) -> list[Any]:
    """The slices along the first axis, each arranged as `elems` are."""
    leaves = [
        leaf if isinstance(leaf, Value) else convert_to_tensor(leaf) for leaf in nest.flatten(elems)
    ]
    if not leaves:
        raise ValueError("elems must be a Tensor or (possibly nested) sequence of Tensors.")
    columns = [array_ops.unstack(leaf) for leaf in leaves]
    if len({len(column) for column in columns}) != 1:
        raise ValueError("elems must have equal first extents.")
    return [nest.pack_sequence_as(elems, list(row)) for row in zip(*columns, strict=True)]


def _fold(fn: Callable[[Any, Any], Any], slices: list[Any], initializer: Any) -> list[Any]:
    """What was accumulated at the start and after each step."""
    if initializer is None:
        if not slices:
            raise ValueError("Without an initializer elems must not be empty.")
        initializer, *slices = slices
    else:
        initializer = nest.map_structure(convert_to_tensor, initializer)
    steps = [initializer]
    for element in slices:
        steps.append(fn(steps[-1], element))
    return steps


def _stack(results: list[Any]) -> Any:
    """Stacks corresponding leaves."""
    if not results:
        raise ValueError("There is nothing to stack: the first extent is 0.")
    columns = zip(*(nest.flatten(result) for result in results), strict=True)
    stacked: list[Tensor] = [array_ops.stack(list(column)) for column in columns]
    return nest.pack_sequence_as(results[0], stacked)
