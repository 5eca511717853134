"""Turns applications of ops into commands. Every op and operator of the package ends here."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from gradtape import _context, _wire, dtypes, errors
from gradtape._context import Scope
from gradtape._form import derived
from gradtape.dtypes import DType

if TYPE_CHECKING:
    from gradtape._session import Session
    from gradtape.tensor import Tensor, Value

# Set by `tensor`, which this module cannot import: every tensor is made by an op or a constant.
new_tensor: Any = None
convert: Any = None
value_types: tuple[type[Value], ...] = ()

_synchronous = False

# Inputs that are numbers of places: their dtype has nothing to do with that of the others.
_INDEX_INPUTS = {
    "gather": 1,
    "gather_nd": 1,
    "in_top_k": 0,
    "reverse_sequence": 1,
    "scatter_nd": 0,
    "sparse_softmax_cross_entropy_with_logits": 0,
    "take_along_axis": 1,
    **{f"tensor_scatter_nd_{how}": 1 for how in ("update", "add", "sub", "max", "min")},
    **{f"segment_{how}": 1 for how in ("sum", "prod", "max", "min", "mean")},
    **{f"unsorted_segment_{how}": 1 for how in ("sum", "prod", "max", "min", "mean", "sqrt_n")},
}


def set_synchronous_execution(enable: bool) -> None:
    """Makes every operation wait for the server, so that errors are raised where they happen."""
    global _synchronous
    _synchronous = enable


def get_synchronous_execution() -> bool:
    """Says whether every operation waits for the server."""
    return _synchronous


def emit(template: _wire.OpTemplate, inputs: Sequence[Value], dtype: DType) -> Tensor:
    """Applies an op with one result.

    Args:
        template: The op and its attributes.
        inputs: As many values or variables as the template says.
        dtype: Element type of the result.
    """
    scope = _context.scope()
    session = scope.session
    site = scope.site()
    if len(inputs) == 2:
        # Most ops have two inputs, and comprehensions cost more than all the rest.
        x, y = inputs
        if x._session is not session or y._session is not session:
            same_session(session, inputs)
        out = session.new_handle()
        session.append(site[template] % (x._handle, y._handle, out))
        form = derived((template, x._form, y._form))
    else:
        same_session(session, inputs)
        out = session.new_handle()
        session.append(site[template] % (*[value._handle for value in inputs], out))
        form = derived((template, *[value._form for value in inputs]))
    result: Tensor = new_tensor(session, out, dtype, form)
    for tape in scope.tapes:
        tape._signature.record(template, inputs, result)
    if _synchronous:
        session.sync(scope.number, site.tail)
    return result


def emit_many(template: _wire.OpTemplate, inputs: Sequence[Value], dtype: DType) -> list[Tensor]:
    """Applies an op with several results of one dtype."""
    scope = _context.scope()
    session = scope.session
    same_session(session, inputs)
    site = scope.site()
    outs = [session.new_handle() for _ in range(template.outputs)]
    session.append(site[template] % (*[value._handle for value in inputs], *outs))
    forms = [value._form for value in inputs]
    results = [
        new_tensor(session, out, dtype, derived((template, i, *forms)))
        for i, out in enumerate(outs)
    ]
    for tape in scope.tapes:
        signature = tape._signature
        signature.step((template, *map(signature.number, inputs)))
        for result in results:
            signature.add(result)
    if _synchronous:
        session.sync(scope.number, site.tail)
    return results


def apply(
    name: str, inputs: Sequence[Any], attributes: dict[str, Any], result: int | str
) -> Tensor:
    """Applies an op of the table to anything that converts to tensors.

    Python numbers and NumPy arrays adopt the dtype of the first tensor among the inputs.

    Args:
        name: Name of the op in the catalogue.
        inputs: Its inputs.
        attributes: Attributes that differ from their defaults.
        result: Where the result's dtype comes from: the number of an input, the name of a dtype, or
            "attribute" for the attribute `dtype`.
    """
    at = _INDEX_INPUTS.get(name)
    values = as_values(inputs) if at is None else _with_indices(inputs, at)
    dtype = _result_dtype(values, attributes, result)
    return emit(_wire.template(name, attributes, len(values)), values, dtype)


def apply_many(
    name: str, inputs: Sequence[Any], attributes: dict[str, Any], result: int | str, count: int
) -> list[Tensor]:
    """Applies an op of the table that has several results of one dtype.

    Args:
        name: Name of the op in the catalogue.
        inputs: Its inputs.
        attributes: Attributes that differ from their defaults.
        result: Where the results' dtype comes from, as for `apply`.
        count: The number of results.
    """
    values = as_values(inputs)
    dtype = _result_dtype(values, attributes, result)
    return emit_many(_wire.template(name, attributes, len(values), count), values, dtype)


def as_values(inputs: Sequence[Any]) -> list[Any]:
    """Converts the inputs of an op; what is no tensor adopts the dtype of the first that is."""
    for value in inputs:
        if not isinstance(value, value_types):
            break
    else:
        return list(inputs)
    hint = None
    for value in inputs:
        if isinstance(value, value_types):
            hint = value._dtype
            break
    values = []
    for value in inputs:
        if not isinstance(value, value_types):
            value = convert(value, hint)
            hint = hint or value._dtype
        values.append(value)
    return values


def _with_indices(inputs: Sequence[Any], at: int) -> list[Any]:
    values = as_values([value for i, value in enumerate(inputs) if i != at])
    indices = inputs[at]
    values.insert(at, indices if isinstance(indices, value_types) else convert(indices, None))
    return values


def same_dtype(name: str, x: Any, y: Any) -> None:
    """Raises where TensorFlow would, since tensors are never promoted."""
    if x._dtype is not y._dtype:
        raise errors.InvalidArgumentError(
            f"cannot compute {name} as input #1(zero-based) was expected to be a "
            f"{x._dtype.name} tensor but is a {y._dtype.name} tensor [Op:{name}]",
            reason="DTYPE_MISMATCH",
            op=name,
        )


def send(template: _wire.Template, handles: tuple[bytes, ...], scope: Scope) -> None:
    """Sends a command that has no result for the program, and of which only the handles differ."""
    site = scope.site()
    scope.session.append(site[template] % handles)
    if _synchronous:
        scope.session.sync(scope.number, site.tail)


def command(kind: int, body: bytes, scope: Scope | None = None) -> None:
    """Sends a command that has no result for the program."""
    scope = scope or _context.scope()
    tail = scope.tail()
    scope.session.append(_wire.entry(kind, body, tail))
    if _synchronous:
        scope.session.sync(scope.number, tail)


def _result_dtype(values: Sequence[Any], attributes: dict[str, Any], result: int | str) -> DType:
    if isinstance(result, int):
        return values[result]._dtype  # type: ignore[no-any-return]
    if result == "attribute":
        return attributes["dtype"]  # type: ignore[no-any-return]
    return dtypes.as_dtype(result)


def same_session(session: Session, values: Iterable[Any]) -> None:
    """Raises if a value is of another session, where its handle names something else."""
    for value in values:
        if value._session is not session:
            raise _other_session(value)


def _other_session(value: Any) -> errors.OpError:
    return errors.NotFoundError(
        f"a {type(value).__name__} of another session cannot be used after tf.connect",
        reason="OTHER_SESSION",
    )
